#include "engine/control/action_names.h"

#include <algorithm>
#include <array>

#include "engine/control/control.h"

namespace clouddisk {
namespace {

// Sorted.
constexpr std::array<std::string_view, 77> kCloudActions = {
    "AddTags",
    "ApplyAutoSnapshotPolicy",
    "AttachDisk",
    "CancelAutoSnapshotPolicy",
    "CancelCopyImage",
    "CancelTask",
    "CloneDisks",
    "CopyImage",
    "CopySnapshot",
    "CreateAutoSnapshotPolicy",
    "CreateDisk",
    "CreateImage",
    "CreateInstance",
    "CreateSnapshot",
    "CreateSnapshotGroup",
    "DeleteAutoSnapshotPolicy",
    "DeleteDisk",
    "DeleteImage",
    "DeleteInstance",
    "DeleteInstances",
    "DeleteSnapshot",
    "DeleteSnapshotGroup",
    "DescribeAutoSnapshotPolicyAssociations",
    "DescribeAutoSnapshotPolicyEx",
    "DescribeDiskDefaultKMSKeyId",
    "DescribeDiskEncryptionByDefaultStatus",
    "DescribeDiskMonitorData",
    "DescribeDisks",
    "DescribeDisksFullStatus",
    "DescribeImages",
    "DescribeInstanceAttribute",
    "DescribeInstanceStatus",
    "DescribeInstances",
    "DescribeLockedSnapshots",
    "DescribeRegions",
    "DescribeResourceByTags",
    "DescribeSnapshotGroups",
    "DescribeSnapshotLinks",
    "DescribeSnapshotMonitorData",
    "DescribeSnapshots",
    "DescribeSnapshotsUsage",
    "DescribeTags",
    "DescribeTaskAttribute",
    "DescribeTasks",
    "DescribeZones",
    "DetachDisk",
    "DisableDiskEncryptionByDefault",
    "EnableDiskEncryptionByDefault",
    "ExportSnapshot",
    "ListTagResources",
    "LockSnapshot",
    "ModifyAutoSnapshotPolicyEx",
    "ModifyDiskAttribute",
    "ModifyDiskDefaultKMSKeyId",
    "ModifyDiskDeployment",
    "ModifyDiskSpec",
    "ModifyImageAttribute",
    "ModifySnapshotAttribute",
    "ModifySnapshotCategory",
    "ModifySnapshotGroup",
    "OpenSnapshotService",
    "ReInitDisk",
    "RebootInstance",
    "RemoveTags",
    "ReplaceSystemDisk",
    "ResetDisk",
    "ResetDiskDefaultKMSKeyId",
    "ResetDisks",
    "ResizeDisk",
    "RunInstances",
    "StartInstance",
    "StartInstances",
    "StopInstance",
    "StopInstances",
    "TagResources",
    "UnlockSnapshot",
    "UntagResources",
};

}  // namespace

bool cloud_has_action(std::string_view name) {
  return std::binary_search(kCloudActions.begin(), kCloudActions.end(), name, NameLess{});
}

}  // namespace clouddisk
