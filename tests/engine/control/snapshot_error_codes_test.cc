// Every documented error code of the actions on snapshots, policies, images, instances and tags
// that a request can bring about here. Those that it can't are listed in docs/api.md.
#include "tests/engine/control/error_codes_world.h"

namespace clouddisk {
namespace {

TEST_F(ErrorCodes, OfSnapshots) {
  const char* action = "CreateSnapshot";
  const std::string many_tags = "DiskId=$used" + tags_of(21);
  expect_all({
      {"a tag twice", action, "DiskId=$used&Tag.1.Key=a&Tag.2.Key=a", 400, "Duplicate.TagKey"},
      {"tag key", action, "DiskId=$used&Tag.1.Key=acs:a", 400, "InvalidTagKey.Malformed"},
      {"tag value", action, "DiskId=$used&Tag.1.Key=a&Tag.1.Value=http://x", 400,
       "InvalidTagValue.Malformed"},
      {"21 tags", action, many_tags.c_str(), 403, "QuotaExceed.Tags"},
      {"name of automatic ones", action, "DiskId=$used&SnapshotName=auto1", 400,
       "InvalidSnapshotName.Malformed"},
      {"description", action, "DiskId=$used&Description=x", 404, "InvalidDescription.Malformed"},
      {"no days", action, "DiskId=$used&RetentionDays=0", 400, "InvalidRetentionDays.Malformed"},
      {"too many days", action, "DiskId=$used&RetentionDays=65537", 400,
       "InvalidRetentionDays.Malformed"},
      {"category", action, "DiskId=$used&Category=gold", 403, "InvalidSnapshotCategory.Malformed"},
      {"never attached", action, "DiskId=$free", 403, "IncorrectDiskStatus.NeverAttached"},
      {"never used", action, "DiskId=$new.data", 403, "IncorrectDiskStatus.NeverUsed"},
      {"being filled", action, "DiskId=$importing", 403, "IncorrectDiskStatus"},
      {"one in progress", action, "DiskId=$ultra", 403, "IncorrectDiskStatus.CreatingSnapshot"},
      {"ten in progress", action, "DiskId=$busy", 403, "QuotaExceed.ConcurrentSnapshotQuota"},
      {"too many", action, "DiskId=$at quota", 403, "QuotaExceed.Snapshot"},
      {"token", action, "DiskId=$used&ClientToken=\xc3\xa4", 403, "InvalidClientToken.Malformed"},
      {"token with other parameters", action, "DiskId=$large&ClientToken=used", 403,
       "IdempotentParameterMismatch"},
      {"no disk", action, "DiskId=d-none", 404, "InvalidDiskId.NotFound"},

      {"none said", "DeleteSnapshot", "", 400, "MissingParameter"},
      {"has a disk", "DeleteSnapshot", "SnapshotId=$lender", 403, "SnapshotCreatedDisk"},
      {"has an image", "DeleteSnapshot", "SnapshotId=$system snapshot&Force=true", 403,
       "SnapshotCreatedImage"},
      {"no snapshot", "DeleteSnapshot", "SnapshotId=s-none", 404, "InvalidSnapshotId.NotFound"},

      {"to its own region", "CopySnapshot", "SnapshotId=$snapshot&DestinationRegionId=r1", 400,
       "InvalidDestinationRegionId"},
      {"in progress", "CopySnapshot", "SnapshotId=$unfinished&DestinationRegionId=r2", 403,
       "InvalidSnapshotId.NotReady"},
      {"no snapshot", "CopySnapshot", "SnapshotId=s-none&DestinationRegionId=r2", 404,
       "InvalidSnapshotId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfShowingSnapshots) {
  const char* action = "DescribeSnapshots";
  const std::string many_tags = tags_of(21).substr(1);
  expect_all({
      {"a value alone", action, "Tag.1.Value=x", 400, "InvalidTag.Mismatch"},
      {"21 tags", action, many_tags.c_str(), 400, "InvalidTagCount"},
      {"category", action, "Category=gold", 403, "InvalidSnapshotCategory.Malformed"},
      {"no list of ids", action, "SnapshotIds=s-1", 403, "InvalidSnapshotIds.Malformed"},
      {"filter", action, "Filter.1.Key=Colour&Filter.1.Value=red", 404,
       "InvalidFilterKey.NotFound"},
      {"filter's time", action, "Filter.1.Key=CreationEndTime&Filter.1.Value=noon", 404,
       "InvalidFilterValue"},
      {"no chain", action, "SnapshotLinkId=sl-none", 404, "InvalidSnapshotLinkId.NotFound"},
      {"type", action, "SnapshotType=odd", 404, "InvalidSnapshotType.NotFound"},
      {"disk type", action, "SourceDiskType=tape", 404, "InvalidSourceDiskType"},
      {"status", action, "Status=odd", 404, "InvalidStatus.NotFound"},
      {"usage", action, "Usage=odd", 404, "InvalidUsage"},
  });
}

TEST_F(ErrorCodes, OfSnapshotGroups) {
  const char* action = "CreateSnapshotGroup";
  const std::string many_tags = "DiskId.1=$used" + tags_of(21);
  expect_all({
      {"not of the family", action, "DiskId.1=$ultra", 400, "DiskCategory.OperationNotSupported"},
      {"a tag twice", action, "DiskId.1=$used&Tag.1.Key=a&Tag.2.Key=a", 400, "Duplicate.TagKey"},
      {"21 tags", action, many_tags.c_str(), 403, "QuotaExceed.Tags"},
      {"two zones", action, "DiskId.1=$used&DiskId.2=$far.system", 400,
       "InvalidDiskIds.NotInSameZone"},
      {"with and without", action, "DiskId.1=$used&ExcludeDiskId.1=$busy", 400,
       "InvalidParam.ExcludeDiskIdsAndDiskIds.Conflict"},
      {"name", action, "DiskId.1=$used&Name=1", 400, "InvalidParameter.Name"},
      {"description", action, "DiskId.1=$used&Description=x", 400, "InvalidParameter.Description"},
      {"of what", action, "Name=good", 400, "MissingParamter.InstanceId"},
      {"more than 32 TiB", action, "DiskId.1=$large&DiskId.2=$larger", 403,
       "CapacityExceed.TooManyDisks"},
      {"more than 16", action, "InstanceId=$full", 403, "NumberExceed.TooManyDisks"},
      {"all left out", action,
       "InstanceId=$running&ExcludeDiskId.1=$running.system&ExcludeDiskId.2=$running.data", 403,
       "InvalidInstance.NoDisk"},
      {"detached", action, "DiskId.1=$free", 403, "IncorrectDiskStatus"},
      {"of another instance", action, "InstanceId=$running&DiskId.1=$used", 403,
       "IncorrectDiskStatus"},
      {"never used", action, "DiskId.1=$new.data", 403, "IncorrectDiskStatus.NeverUsed"},
      {"ten in progress", action, "DiskId.1=$busy", 403, "QuotaExceed.ConcurrentSnapshotQuota"},
      {"too many", action, "DiskId.1=$at quota", 403, "QuotaExceed.Snapshot"},
      {"token with other parameters", action, "InstanceId=$running&ClientToken=used", 403,
       "IdempotentParameterMismatch"},
      {"no disk", action, "DiskId.1=d-none", 404, "InvalidDiskId.NotFound"},
      {"no instance", action, "InstanceId=i-none", 404, "InvalidInstanceId.NotFound"},
      {"no group", "DeleteSnapshotGroup", "SnapshotGroupId=ssg-none", 404,
       "InvalidSnapshotGroupId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfPolicies) {
  const char* action = "CreateAutoSnapshotPolicy";
  const std::string good = R"(timePoints=["6"]&repeatWeekdays=["1"]&retentionDays=7)";
  const auto with = [&good](const char* more) { return good + "&" + more; };
  const std::string twice = with("Tag.1.Key=a&Tag.2.Key=a");
  const std::string key = with("Tag.1.Key=acs:a");
  const std::string value = with("Tag.1.Key=a&Tag.1.Value=http://x");
  const std::string bad_name = with("autoSnapshotPolicyName=1");
  const std::string copies = with("TargetCopyRegions=[\"r2\"]");
  const std::string copies_days = with("CopiedSnapshotsRetentionDays=7");
  const std::string no_disk = R"(autoSnapshotPolicyId=$policy&diskIds=["d-none"])";
  expect_all({
      {"a tag twice", action, twice.c_str(), 400, "Duplicate.TagKey"},
      {"tag key", action, key.c_str(), 400, "InvalidTagKey.Malformed"},
      {"tag value", action, value.c_str(), 400, "InvalidTagValue.Malformed"},
      {"name", action, bad_name.c_str(), 400, "InvalidSnapshotPolicyName.Malformed"},
      {"copies", action, copies.c_str(), 403, "InvalidParameter.TargetCopyRegions"},
      {"copies' days", action, copies_days.c_str(), 403,
       "InvalidParameter.CopiedSnapshotsRetentionDays"},
      {"hour", action, R"(timePoints=["24"]&repeatWeekdays=["1"]&retentionDays=7)", 403,
       "ParameterInvalid"},
      {"weekday", action, R"(timePoints=["6"]&repeatWeekdays=["8"]&retentionDays=7)", 403,
       "ParameterInvalid"},
      {"days", action, R"(timePoints=["6"]&repeatWeekdays=["1"]&retentionDays=0)", 403,
       "ParameterInvalid"},
      {"no policy", "ApplyAutoSnapshotPolicy", R"(autoSnapshotPolicyId=sp-none&diskIds=["d-1"])",
       400, "InvalidAutoSnapshotPolicyId.NotFound"},
      {"no list of disks", "ApplyAutoSnapshotPolicy", "autoSnapshotPolicyId=$policy&diskIds=d-1",
       403, "ParameterInvalid"},
      {"no disk", "ApplyAutoSnapshotPolicy", no_disk.c_str(), 404, "InvalidDiskId.NotFound"},
      {"no policy", "CancelAutoSnapshotPolicy", R"(autoSnapshotPolicyId=sp-none&diskIds=["d-1"])",
       404, "ParameterInvalid"},
  });
}

TEST_F(ErrorCodes, OfImages) {
  const char* action = "CreateImage";
  const std::string many_tags = "SnapshotId=$system snapshot" + tags_of(21);
  expect_all({
      {"a tag twice", action, "SnapshotId=$system snapshot&Tag.1.Key=a&Tag.2.Key=a", 400,
       "Duplicate.TagKey"},
      {"21 tags", action, many_tags.c_str(), 403, "QuotaExceed.Tags"},
      {"name", action, "SnapshotId=$system snapshot&ImageName=1", 400,
       "InvalidImageName.Malformed"},
      {"name that there is", action, "SnapshotId=$system snapshot&ImageName=base", 400,
       "InvalidImageName.Duplicated"},
      {"description", action, "SnapshotId=$system snapshot&Description=x", 400,
       "InvalidDescription.Malformed"},
      {"device", action,
       "SnapshotId=$system snapshot&DiskDeviceMapping.1.SnapshotId=$snapshot&"
       "DiskDeviceMapping.1.Device=/dev/sdb",
       400, "InvalidDevice.Malformed"},
      {"device in use", action,
       "SnapshotId=$system snapshot&DiskDeviceMapping.1.SnapshotId=$snapshot&"
       "DiskDeviceMapping.1.Device=/dev/xvda",
       400, "InvalidDevice.InUse"},
      {"size", action,
       "SnapshotId=$system snapshot&DiskDeviceMapping.1.SnapshotId=$snapshot&"
       "DiskDeviceMapping.1.Size=39",
       400, "InvalidSize.ValueNotSupported"},
      {"instance without system disk", action, "InstanceId=$host", 400,
       "InvalidInstance.NotFoundSystemDisk"},
      {"of what", action, "ImageName=good", 400, "MissingParameter"},
      {"instance and snapshot", action, "InstanceId=$running&SnapshotId=$system snapshot", 403,
       "InvalidParamter.Conflict"},
      {"instance that never ran", action, "InstanceId=$new", 403, "IncorrectDiskStatus.NeverUsed"},
      {"of a data disk", action, "SnapshotId=$snapshot", 403, "OperationDenied"},
      {"in progress", action, "SnapshotId=$unfinished", 403, "InvalidSnapshotId.NotReady"},
      {"no instance", action, "InstanceId=i-none", 404, "InvalidInstanceId.NotFound"},
      {"no snapshot", action, "SnapshotId=s-none", 404, "InvalidSnapshotId.NotFound"},
      {"has an instance", "DeleteImage", "ImageId=$image", 403, "ImageUsingByInstance"},
      {"no image", "DeleteImage", "ImageId=m-none", 404, "InvalidImageId.NotFound"},
  });
}

TEST_F(ErrorCodes, OfInstances) {
  expect_all({
      {"runs already", "StartInstance", "InstanceId=$running", 403, "IncorrectInstanceStatus"},
      {"stopped already", "StopInstance", "InstanceId=$stopped", 403, "IncorrectInstanceStatus"},
      {"stopped", "RebootInstance", "InstanceId=$stopped", 403, "IncorrectInstanceStatus"},
      {"runs", "DeleteInstance", "InstanceId=$running", 403, "IncorrectInstanceStatus"},
      {"protected", "DeleteInstance", "InstanceId=$protected&Force=true", 403,
       "InvalidOperation.DeletionProtection"},
      {"the host", "DeleteInstance", "InstanceId=$host&Force=true", 403, "OperationDenied"},
      {"no instance", "StartInstance", "InstanceId=i-none", 404, "InvalidInstanceId.NotFound"},
      {"system disk too large", "RunInstances", "ImageId=local&InstanceType=x&SystemDisk.Size=501",
       400, "InvalidSystemDiskSize.ValueNotSupported"},
      {"system disk smaller than its image", "RunInstances",
       "ImageId=$image&InstanceType=x&SystemDisk.Category=cloud_essd&SystemDisk.Size=39", 404,
       "InvalidSystemDiskSize.LessThanImageSize"},
      {"no image", "RunInstances", "ImageId=m-none&InstanceType=x", 404, "InvalidImageId.NotFound"},
      {"none", "RunInstances", "ImageId=local&InstanceType=x&Amount=0", 400,
       "InvalidParameter.Amount"},
  });
}

TEST_F(ErrorCodes, OfTags) {
  const char* action = "TagResources";
  const std::string good = "RegionId=r1&ResourceType=disk&ResourceId.1=$used";
  const auto with = [&good](const std::string& more) { return good + more; };
  const std::string nothing = with("");
  const std::string twice = with("&Tag.1.Key=a&Tag.2.Key=a");
  const std::string value_alone = with("&Tag.1.Key=a&Tag.2.Value=b");
  const std::string key = with("&Tag.1.Key=aliyun");
  const std::string value = with("&Tag.1.Key=a&Tag.1.Value=https://x");
  const std::string many = with(tags_of(21));
  const std::string many_ids =
      "RegionId=r1&ResourceType=disk&Tag.1.Key=a" + ids_of(51, "ResourceId", "$used");
  expect_all({
      {"a tag twice", action, twice.c_str(), 400, "Duplicate.TagKey"},
      {"a value alone", action, value_alone.c_str(), 400, "InvalidTag.Mismatch"},
      {"tag key", action, key.c_str(), 400, "InvalidTagKey.Malformed"},
      {"tag value", action, value.c_str(), 400, "InvalidTagValue.Malformed"},
      {"51 resources", action, many_ids.c_str(), 400, "NumberExceed.ResourceIds"},
      {"21 tags", action, many.c_str(), 400, "NumberExceed.Tags"},
      {"the 21st of a resource", action,
       "RegionId=r1&ResourceType=disk&ResourceId.1=$tagged&Tag.1.Key=a", 400,
       "OperationDenied.QuotaExceed"},
      {"of another type", action, "RegionId=r1&ResourceType=disk&ResourceId.1=$host&Tag.1.Key=a",
       403, "InvalidResourceId.NotSupported"},
      {"region", action, "RegionId=mars&ResourceType=disk&ResourceId.1=$used&Tag.1.Key=a", 404,
       "InvalidRegionId.NotFound"},
      {"no resource", action, "RegionId=r1&ResourceType=disk&ResourceId.1=d-none&Tag.1.Key=a", 404,
       "InvalidResourceId.NotFound"},
      {"type", action, "RegionId=r1&ResourceType=tape&ResourceId.1=$used&Tag.1.Key=a", 404,
       "InvalidResourceType.NotFound"},
      {"no region", action, "ResourceType=disk&ResourceId.1=$used&Tag.1.Key=a", 404,
       "MissingParameter.RegionId"},
      {"no resources", action, "RegionId=r1&ResourceType=disk&Tag.1.Key=a", 404,
       "MissingParameter.ResourceIds"},
      {"no type", action, "RegionId=r1&ResourceId.1=$used&Tag.1.Key=a", 404,
       "MissingParameter.ResourceType"},
      {"no tags", action, nothing.c_str(), 404, "MissingParameter.Tags"},
      {"no tags of a search", "DescribeTags", "Tag.1.Value=x", 400, "InvalidTag.Mismatch"},
  });
}

}  // namespace
}  // namespace clouddisk
