// Every documented error code of the actions on disks that a request can bring about here. Those
// that it can't are listed in docs/api.md.
#include "tests/engine/control/error_codes_world.h"

namespace clouddisk {
namespace {

// Not of this table: what needs a fault below (InternalError, ServiceUnavailable), a signature, or
// another moment than the one between two actions (IncorrectInstanceStatus of AttachDisk).

TEST_F(ErrorCodes, OfAnyAction) {
  const std::string many = ids_of(2'001, "Junk", "x").substr(1);
  expect_all({
      {"no action", "", "", 400, "MissingParameter"},
      {"no such action", "MakeCoffee", "", 404, "InvalidAction.NotFound"},
      {"an action that only the cloud has", "CloneDisks", "", 404, "InvalidAction.NotFound"},
      {"version", "DescribeDisks", "Version=2015-05-26", 400, "InvalidVersion"},
      {"a number in words", "DescribeDisks", "PageSize=ten", 400, "InvalidParameter"},
      {"too many parameters", "DescribeDisks", many.c_str(), 400, "InvalidParameter"},
      {"no UTF-8", "DescribeDisks", "DiskName=\xff", 400, "InvalidParameter"},
      {"region", "DescribeInstances", "RegionId=mars", 404, "InvalidRegionId.NotFound"},
      {"zone", "DescribeInstances", "ZoneId=mars", 404, "InvalidZoneId.NotFound"},
      {"dry run", "DeleteDisk", "DiskId=$free&DryRun=true", 400, "DryRunOperation"},
      {"dry run of a refusal", "DeleteDisk", "DiskId=$used&DryRun=true", 403,
       "IncorrectDiskStatus"},
  });
  const Reply reply = world().daemon.machine.ring->block_on(
      world().daemon.control->perform({{"Action", "CreateAccessKey"}}, Caller::kSigned));
  EXPECT_EQ(reply.http_status, 403);
  EXPECT_EQ(Json::parse(reply.body)["Code"], "Forbidden.RAM");
}

TEST_F(ErrorCodes, OfCreateDisk) {
  const std::string many_tags = "Size=40" + tags_of(21);
  const char* action = "CreateDisk";
  expect_all({
      {"bursting", action, "Size=40&DiskCategory=cloud_auto&BurstingEnabled=true", 400,
       "BurstingEnabledForDiskCategoryUnsupported"},
      {"a tag twice", action, "Size=40&Tag.1.Key=a&Tag.2.Key=a", 400, "Duplicate.TagKey"},
      {"tag key", action, "Size=40&Tag.1.Key=acs:a", 400, "InvalidTagKey.Malformed"},
      {"tag value", action, "Size=40&Tag.1.Key=a&Tag.1.Value=http://x", 400,
       "InvalidTagValue.Malformed"},
      {"21 tags", action, many_tags.c_str(), 403, "QuotaExceed.Tags"},
      {"name", action, "Size=40&DiskName=1", 400, "InvalidDiskName.Malformed"},
      {"description", action, "Size=40&Description=x", 400, "InvalidDescription.Malformed"},
      {"unknown category", action, "Size=40&DiskCategory=cloud_9", 400,
       "InvalidDiskCategory.ValueNotSupported"},
      {"category that is not to be had", action, "Size=40&DiskCategory=cloud_regional_disk_auto",
       403, "InvalidDiskCategory.NotSupported"},
      {"basic disk too small", action, "Size=4&DiskCategory=cloud", 400,
       "InvalidDiskSize.NotSupported"},
      {"ultra disk too large", action, "Size=32769&DiskCategory=cloud_efficiency", 400,
       "InvalidDiskSize.NotSupported"},
      {"SSD too small", action, "Size=19&DiskCategory=cloud_ssd", 400,
       "InvalidDiskSize.NotSupported"},
      {"AutoPL too small", action, "Size=39&DiskCategory=cloud_auto", 403,
       "InvalidDataDiskSize.ValueNotSupported"},
      {"PL0 too small", action, "Size=39&DiskCategory=cloud_essd&PerformanceLevel=PL0", 403,
       "InvalidDiskSize.TooSmall"},
      {"PL1 too small", action, "Size=19&DiskCategory=cloud_essd", 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL2 too small", action, "Size=460&PerformanceLevel=PL2", 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL3 too small", action, "Size=1260&PerformanceLevel=PL3", 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"PL1 too large", action, "Size=32769&DiskCategory=cloud_essd", 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"size in words", action, "Size=big", 400, "InvalidSize.ValueNotSupported"},
      {"no size", action, "DiskCategory=cloud_essd", 400, "MissingParameter"},
      {"no level", action, "Size=40&PerformanceLevel=PL4", 400,
       "InvalidPerformanceLevel.Malformed"},
      {"level of a category without", action, "Size=40&DiskCategory=cloud_ssd&PerformanceLevel=PL1",
       400, "InvalidPerformanceLevel.ValueNotSupported"},
      {"too many provisioned IOPS", action, "Size=40&DiskCategory=cloud_auto&ProvisionedIops=36201",
       400, "InvalidProvisionedIops.LimitExceed"},
      {"provisioned IOPS of another", action, "Size=40&DiskCategory=cloud_essd&ProvisionedIops=1",
       400, "ProvisionedIopsForDiskCategoryUnsupported"},
      {"two stores", action, "Size=40&StoreDefault=true&StoreLatencyUs=1", 400,
       "InvalidParameter.Conflict"},
      {"token with other parameters", action, "Size=41&DiskCategory=cloud_essd&ClientToken=used",
       403, "IdempotentParameterMismatch"},
      {"token", action, "Size=40&ClientToken=a b", 403, "InvalidClientToken.Malformed"},
      {"zone and instance", action, "Size=40&ZoneId=r1-a&InstanceId=$running", 403,
       "InvalidParam.ZoneIdAndInstanceId.Conflict"},
      {"encrypted", action, "Size=40&Encrypted=true", 403,
       "InvalidParameter.EncryptedNotSupported"},
      {"many servers", action, "Size=40&MultiAttach=Enabled", 403, "InvalidParameter.MultiAttach"},
      {"snapshot larger than any", action, "SnapshotId=$large snapshot&DiskCategory=cloud", 403,
       "InvalidSnapshot.TooLarge"},
      {"smaller than its snapshot", action, "SnapshotId=$snapshot&DiskCategory=cloud_essd&Size=39",
       403, "InvalidDiskSize.TooSmall"},
      {"of a system disk", action, "SnapshotId=$system snapshot&DiskCategory=cloud_essd", 403,
       "InvalidSnapshotId.NotDataDiskSnapshot"},
      {"of a failed snapshot", action, "SnapshotId=$failed&DiskCategory=cloud_essd", 403,
       "InvalidSnapshotId.NotReady"},
      {"of no snapshot", action, "SnapshotId=s-none", 404, "InvalidSnapshotId.NotFound"},
      {"at a full instance", action, "Size=40&InstanceId=$full", 403, "InstanceDiskLimitExceeded"},
      {"at no instance", action, "Size=40&InstanceId=i-none", 404, "InvalidInstanceId.NotFound"},
      {"region", action, "Size=40&RegionId=mars", 404, "InvalidRegionId.NotFound"},
      {"another region's zone", action, "Size=40&RegionId=r1&ZoneId=r2-a", 404,
       "InvalidZoneId.NotFound"},
      {"system disk of a snapshot", "RunInstances",
       "ImageId=local&InstanceType=x&SystemDisk.SnapshotId=$snapshot", 403,
       "InvalidOperation.CreateFromSnapshotUnsupported"},
  });
}

TEST_F(ErrorCodes, OfAttachAndDetachAndDelete) {
  expect_all({
      {"device", "AttachDisk", "DiskId=$free&InstanceId=$running&Device=/dev/sda", 400,
       "InvalidDevice.Malformed"},
      {"device in use", "AttachDisk", "DiskId=$free&InstanceId=$running&Device=/dev/xvdb", 403,
       "InvalidDevice.InUse"},
      {"to boot from", "AttachDisk", "DiskId=$free&InstanceId=$running&Bootable=true", 400,
       "InvalidDisk.DiskNotBootable"},
      {"neither true nor false", "AttachDisk",
       "DiskId=$free&InstanceId=$running&DeleteWithInstance=maybe", 400, "InvalidParameter"},
      {"by force", "AttachDisk", "DiskId=$free&InstanceId=$running&Force=true", 400,
       "InvalidParameterForce.DiskCategoryNotSupported"},
      {"attached already", "AttachDisk", "DiskId=$used&InstanceId=$running", 403,
       "IncorrectDiskStatus"},
      {"being filled", "AttachDisk", "DiskId=$importing&InstanceId=$running", 403,
       "IncorrectDiskStatus"},
      {"a full instance", "AttachDisk", "DiskId=$free&InstanceId=$full", 403,
       "InstanceDiskLimitExceeded"},
      {"another zone", "AttachDisk", "DiskId=$free&InstanceId=$far", 403, "ResourcesNotInSameZone"},
      {"no disk", "AttachDisk", "DiskId=d-none&InstanceId=$running", 404, "InvalidDiskId.NotFound"},
      {"no instance", "AttachDisk", "DiskId=$free&InstanceId=i-none", 404,
       "InvalidInstanceId.NotFound"},
      {"nothing said", "AttachDisk", "DiskId=$free", 400, "MissingParameter"},

      {"neither true nor false", "DetachDisk",
       "DiskId=$used&InstanceId=$host&DeleteWithInstance=maybe", 400, "InvalidParameter"},
      {"another instance", "DetachDisk", "DiskId=$used&InstanceId=$running", 403,
       "DependencyViolation"},
      {"a system disk", "DetachDisk", "DiskId=$running.system&InstanceId=$running", 403,
       "DiskTypeViolation"},
      {"detached already", "DetachDisk", "DiskId=$free&InstanceId=$host", 403,
       "IncorrectDiskStatus"},
      {"no disk", "DetachDisk", "DiskId=d-none&InstanceId=$host", 404, "InvalidDiskId.NotFound"},
      {"no instance", "DetachDisk", "DiskId=$used&InstanceId=i-none", 404,
       "InvalidInstanceId.NotFound"},

      {"still attached", "DeleteDisk", "DiskId=$used", 403, "IncorrectDiskStatus"},
      {"a system disk", "DeleteDisk", "DiskId=$running.system", 403, "IncorrectDiskStatus"},
      {"snapshot in progress", "DeleteDisk", "DiskId=$leaving", 403, "DiskCreatingSnapshot"},
      {"no disk", "DeleteDisk", "DiskId=d-none", 404, "InvalidDiskId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfResizing) {
  const char* action = "ResizeDisk";
  expect_all({
      {"type", action, "DiskId=$used&NewSize=50&Type=soon", 400, "InvalidParam.Type"},
      {"no size", action, "DiskId=$used", 400, "MissingParameter"},
      {"size in words", action, "DiskId=$used&NewSize=big", 400, "InvalidParameter"},
      {"smaller", action, "DiskId=$used&NewSize=39", 403, "InvalidDiskSize.TooSmall"},
      {"equal", action, "DiskId=$used&NewSize=40", 403, "InvalidDiskSize"},
      {"too large", action, "DiskId=$used&NewSize=32769", 403, "InvalidDiskSize.TooLarge"},
      {"system disk too large", action, "DiskId=$stopped.system&NewSize=501", 403,
       "InvalidDiskSize.TooLarge"},
      {"snapshot in progress", action, "DiskId=$busy&NewSize=50", 403, "DiskCreatingSnapshot"},
      {"being filled", action, "DiskId=$importing&NewSize=50", 403, "IncorrectDiskStatus"},
      {"online and detached", action, "DiskId=$free&NewSize=50&Type=online", 403,
       "IncorrectDiskStatus"},
      {"online and stopped", action, "DiskId=$stopped.data&NewSize=50&Type=online", 403,
       "InvalidInstanceStatus.NotRunning"},
      {"no disk", action, "DiskId=d-none&NewSize=50", 404, "InvalidDiskId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfRollingBack) {
  expect_all({
      {"dry run", "ResetDisk", "DiskId=$stopped.data&SnapshotId=$stopped.snapshot&DryRun=true", 400,
       "DryRunOperation"},
      {"another disk's", "ResetDisk", "DiskId=$stopped.data&SnapshotId=$snapshot", 403,
       "InvalidParameter.Mismatch"},
      {"its snapshot in progress", "ResetDisk", "DiskId=$busy&SnapshotId=$unfinished", 403,
       "InvalidSnapshotId.NotReady"},
      {"its snapshot failed", "ResetDisk", "DiskId=$used&SnapshotId=$failed", 403,
       "InvalidSnapshotId.NotReady"},
      {"another in progress", "ResetDisk", "DiskId=$busy&SnapshotId=$busy's first", 403,
       "IncorrectDiskStatus.HasUnfinishedSnapshot"},
      {"instance runs", "ResetDisk", "DiskId=$large&SnapshotId=$large snapshot", 403,
       "IncorrectInstanceStatus"},
      {"no disk", "ResetDisk", "DiskId=d-none&SnapshotId=$snapshot", 404, "InvalidDiskId.NotFound"},
      {"no snapshot", "ResetDisk", "DiskId=$used&SnapshotId=s-none", 404,
       "InvalidSnapshotId.NotFound"},

      {"dry run", "ReInitDisk", "DiskId=$stopped.data&DryRun=true", 400, "DryRunOperation"},
      {"snapshot in progress", "ReInitDisk", "DiskId=$leaving", 403, "DiskCreatingSnapshot"},
      {"being filled", "ReInitDisk", "DiskId=$importing", 403, "IncorrectDiskStatus"},
      {"instance runs", "ReInitDisk", "DiskId=$large", 403, "IncorrectInstanceStatus"},
      {"its snapshot is gone", "ReInitDisk", "DiskId=$orphan", 403, "InvalidSourceSnapshot"},
      {"its image is gone", "ReInitDisk", "DiskId=$of no image.system", 403, "OperationDenied"},
      {"no disk", "ReInitDisk", "DiskId=d-none", 404, "InvalidDiskId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfModifying) {
  const char* spec = "ModifyDiskSpec";
  expect_all({
      {"bursting", "ModifyDiskAttribute", "DiskId=$auto&BurstingEnabled=true", 400,
       "BurstingEnabledForDiskCategoryUnsupported"},
      {"name", "ModifyDiskAttribute", "DiskId=$auto&DiskName=1", 400, "InvalidDiskName.Malformed"},
      {"description", "ModifyDiskAttribute", "DiskId=$auto&Description=x", 404,
       "InvalidDescription.Malformed"},
      {"no disk said", "ModifyDiskAttribute", "DiskName=good", 400,
       "MissingParameter.DiskIdOrDiskIds"},
      {"nothing said", "ModifyDiskAttribute", "DiskId=$auto", 400, "NoAttributeToModify"},
      {"one and several", "ModifyDiskAttribute", "DiskId=$auto&DiskIds.1=$used&DiskName=good", 400,
       "ParameterConflict.DiskIdAndDiskIds"},
      {"one of them is not there", "ModifyDiskAttribute",
       "DiskIds.1=$used&DiskIds.2=d-none&DiskName=good", 404, "InvalidDiskId.NotFound"},

      {"unknown category", spec, "DiskId=$used&DiskCategory=cloud_9", 400,
       "InvalidDiskCategory.ValueNotSupported"},
      {"no level", spec, "DiskId=$used&PerformanceLevel=PL9", 400,
       "InvalidPerformanceLevel.Malformed"},
      {"level of a category without", spec, "DiskId=$auto&PerformanceLevel=PL1", 400,
       "InvalidPerformanceLevelParam.Mismatch"},
      {"too many provisioned IOPS", spec, "DiskId=$auto&ProvisionedIops=36201", 400,
       "InvalidProvisionedIops.LimitExceed"},
      {"provisioned IOPS of another", spec, "DiskId=$used&ProvisionedIops=1", 400,
       "ProvisionedIopsForDiskCategoryUnsupported"},
      {"snapshot in progress", spec, "DiskId=$busy&DiskCategory=cloud_auto", 403,
       "DiskCreatingSnapshot"},
      {"changed lately", spec, "DiskId=$cooling&PerformanceLevel=PL3", 403, "DiskInCoolingPeriod"},
      {"prepaid down", spec, "DiskId=$prepaid&PerformanceLevel=PL1", 403, "Downgrade.NotSupported"},
      {"down to PL0", spec, "DiskId=$free&PerformanceLevel=PL0", 403,
       "InvalidPerformanceLevel.TooLow"},
      {"being filled", spec, "DiskId=$importing&PerformanceLevel=PL2", 403, "IncorrectDiskStatus"},
      {"down to another category", spec, "DiskId=$free&DiskCategory=cloud_efficiency", 403,
       "InvalidDiskCategory.NotSupported"},
      {"of a basic disk", spec, "DiskId=$basic&DiskCategory=cloud_essd", 403,
       "InvalidDiskCategory.ValueNotSupported"},
      {"no change", spec, "DiskId=$free&PerformanceLevel=PL1", 403,
       "NoChangeInDiskCategoryAndPerformanceLevel"},
      {"options", spec, "DiskId=$free&PerformanceControlOptions.IOPS=1", 403, "OperationDenied"},
      {"waits for a restart", spec, "DiskId=$grown&PerformanceLevel=PL2", 403,
       "OperationDenied.DiskExpansionUnfinished"},
      {"too small", spec, "DiskId=$free&PerformanceLevel=PL2", 403,
       "OperationDenied.PerformanceLevelNotMatch"},
      {"no disk", spec, "DiskId=d-none&PerformanceLevel=PL2", 404, "InvalidDiskId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfShowingDisks) {
  const std::string many_tags = tags_of(21).substr(1);
  const char* monitor = "DescribeDiskMonitorData";
  expect_all({
      {"category", "DescribeDisks", "Category=cloud_9", 400, "InvalidCategory.ValueNotSupported"},
      {"type", "DescribeDisks", "DiskType=tape", 400, "InvalidDiskType.ValueNotSupported"},
      {"status", "DescribeDisks", "Status=Deleting", 400, "InvalidStatus.ValueNotSupported"},
      {"a value alone", "DescribeDisks", "Tag.1.Value=x", 400, "InvalidTag.Mismatch"},
      {"21 tags", "DescribeDisks", many_tags.c_str(), 400, "InvalidTagCount"},
      {"zone", "DescribeDisks", "ZoneId=mars", 400, "InvalidZoneId.NotFound"},
      {"many servers", "DescribeDisks", "MultiAttach=maybe", 403, "InvalidParameter.MultiAttach"},
      {"no list of ids", "DescribeDisks", "DiskIds=d-1", 403, "InvalidDiskIds.Malformed"},
      {"charge type", "DescribeDisks", "DiskChargeType=Free", 404,
       "InvalidDiskChargeType.NotFound"},
      {"filter", "DescribeDisks", "Filter.1.Key=Colour&Filter.1.Value=red", 404,
       "InvalidFilterKey.NotFound"},
      {"filter's time", "DescribeDisks", "Filter.1.Key=CreationStartTime&Filter.1.Value=noon", 404,
       "InvalidFilterValue"},

      {"start", monitor, "DiskId=$used&StartTime=noon&EndTime=2026-01-01T00:00:00Z", 400,
       "InvalidStartTime.Malformed"},
      {"end", monitor, "DiskId=$used&StartTime=2026-01-01T00:00:00Z&EndTime=noon", 400,
       "InvalidEndTime.Malformed"},
      {"end before start", monitor,
       "DiskId=$used&StartTime=2200-01-01T00:01:00Z&EndTime=2200-01-01T00:00:00Z", 400,
       "InvalidParameter.EndTime"},
      {"period", monitor,
       "DiskId=$used&StartTime=2026-01-01T00:00:00Z&EndTime=2026-01-01T00:01:00Z&Period=61", 400,
       "InvalidPeriod.ValueNotSupported"},
      {"long ago", monitor,
       "DiskId=$used&StartTime=2000-01-01T00:00:00Z&EndTime=2000-01-01T00:01:00Z", 400,
       "InvalidStartTime.TooEarly"},
      {"more than 400 points", monitor,
       "DiskId=$used&StartTime=2200-01-01T00:00:00Z&EndTime=2200-01-02T00:00:00Z", 400,
       "InvalidParameter.TooManyDataQueried"},
      {"no disk", monitor,
       "DiskId=d-none&StartTime=2200-01-01T00:00:00Z&EndTime=2200-01-01T00:01:00Z", 404,
       "InvalidDiskId.NotFound"},
  });
}

}  // namespace
}  // namespace clouddisk
