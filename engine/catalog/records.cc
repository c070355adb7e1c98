#include "engine/catalog/records.h"

#include "engine/catalog/record_json.h"

namespace clouddisk {

using namespace record_json;

std::string key_of(const DiskRecord& disk) {
  return std::string(kDiskKeys) + disk.id;
}
std::string key_of(const InstanceRecord& instance) {
  return std::string(kInstanceKeys) + instance.id;
}
std::string key_of(const TokenRecord& token) {
  return std::string(kTokenKeys) + token.action + "/" + token.token;
}

std::string key_of(const SnapshotRecord& snapshot) {
  return std::string(kSnapshotKeys) + snapshot.id;
}
std::string key_of(const ChainRecord& chain) {
  return std::string(kChainKeys) + chain.id;
}
std::string key_of(const GroupRecord& group) {
  return std::string(kGroupKeys) + group.id;
}
std::string key_of(const KeyRecord& key) {
  return std::string(kAccessKeys) + key.id;
}
std::string key_of(const PolicyRecord& policy) {
  return std::string(kPolicyKeys) + policy.id;
}

std::string to_json(const DiskRecord& disk) {
  const Json json = {
      {"id", disk.id},
      {"region", disk.region},
      {"zone", disk.zone},
      {"name", disk.disk_name},
      {"description", disk.description},
      {"category", disk.category},
      {"level", disk.level},
      {"size_gib", disk.size_gib},
      {"visible_gib", disk.visible_gib},
      {"provisioned_iops", disk.provisioned_iops},
      {"system", disk.system},
      {"status", name(disk.status)},
      {"promised", disk.promised},
      {"instance", disk.instance_id},
      {"device", disk.device},
      {"delete_with_instance", disk.delete_with_instance},
      {"delete_auto_snapshot", disk.delete_auto_snapshot},
      {"enable_auto_snapshot", disk.enable_auto_snapshot},
      {"prepaid", disk.prepaid},
      {"resource_group", disk.resource_group},
      {"image", disk.image_id},
      {"created", to_number(disk.created)},
      {"attached", to_number(disk.attached)},
      {"detached", to_number(disk.detached)},
      {"spec_changed", to_number(disk.spec_changed)},
      {"tags", to_json_list(disk.tags)},
      {"policies", to_json_list(disk.policies)},
      {"storage", disk.storage},
      {"storages", disk.storages},
      {"source_snapshot", disk.source_snapshot},
      {"base_snapshot", disk.base_snapshot},
      {"undo_storage", disk.undo_storage},
      {"undo_base", disk.undo_base},
      {"undo_current", disk.undo_current},
      {"undo_until", to_number(disk.undo_until)},
      {"own_store", disk.own_store},
      {"store_latency_us", disk.store_latency_us},
      {"store_bytes_per_second", disk.store_bytes_per_second},
  };
  return json.dump();
}

Result<DiskRecord> disk_from_json(std::string_view json) {
  MemberReader reader("disk", json);
  DiskRecord disk;
  reader.read("id", disk.id);
  reader.read("region", disk.region);
  reader.read("zone", disk.zone);
  reader.read("name", disk.disk_name);
  reader.read("description", disk.description);
  reader.read("category", disk.category);
  reader.read("level", disk.level);
  reader.read("size_gib", disk.size_gib);
  reader.read("visible_gib", disk.visible_gib);
  reader.read("provisioned_iops", disk.provisioned_iops);
  reader.read("system", disk.system);
  reader.read_status(disk.status, &parse_disk_status);
  reader.read_newer("promised", disk.promised);
  reader.read("instance", disk.instance_id);
  reader.read("device", disk.device);
  reader.read("delete_with_instance", disk.delete_with_instance);
  reader.read("delete_auto_snapshot", disk.delete_auto_snapshot);
  reader.read("enable_auto_snapshot", disk.enable_auto_snapshot);
  reader.read("prepaid", disk.prepaid);
  reader.read("resource_group", disk.resource_group);
  reader.read("image", disk.image_id);
  reader.read("created", disk.created);
  reader.read("attached", disk.attached);
  reader.read("detached", disk.detached);
  reader.read("spec_changed", disk.spec_changed);
  reader.read("tags", disk.tags);
  reader.read_newer("policies", disk.policies);
  disk.storage = disk.id;
  reader.read_newer("storage", disk.storage);
  reader.read_newer("storages", disk.storages);
  reader.read_newer("source_snapshot", disk.source_snapshot);
  reader.read_newer("base_snapshot", disk.base_snapshot);
  reader.read_newer("undo_storage", disk.undo_storage);
  reader.read_newer("undo_base", disk.undo_base);
  reader.read_newer("undo_current", disk.undo_current);
  reader.read_newer("undo_until", disk.undo_until);
  reader.read_newer("own_store", disk.own_store);
  reader.read_newer("store_latency_us", disk.store_latency_us);
  reader.read_newer("store_bytes_per_second", disk.store_bytes_per_second);
  return reader.finish(std::move(disk));
}

std::string to_json(const InstanceRecord& instance) {
  const Json json = {
      {"id", instance.id},
      {"region", instance.region},
      {"zone", instance.zone},
      {"name", instance.instance_name},
      {"description", instance.description},
      {"host_name", instance.host_name},
      {"image", instance.image_id},
      {"type", instance.type},
      {"status", name(instance.status)},
      {"promised", instance.promised},
      {"starts", instance.starts},
      {"deletion_protection", instance.deletion_protection},
      {"prepaid", instance.prepaid},
      {"resource_group", instance.resource_group},
      {"created", to_number(instance.created)},
      {"started", to_number(instance.started)},
      {"tags", to_json_list(instance.tags)},
      {"iops_limit", instance.iops_limit},
      {"throughput_limit", instance.throughput_limit},
  };
  return json.dump();
}

Result<InstanceRecord> instance_from_json(std::string_view json) {
  MemberReader reader("instance", json);
  InstanceRecord instance;
  reader.read("id", instance.id);
  reader.read("region", instance.region);
  reader.read("zone", instance.zone);
  reader.read("name", instance.instance_name);
  reader.read("description", instance.description);
  reader.read("host_name", instance.host_name);
  reader.read("image", instance.image_id);
  reader.read("type", instance.type);
  reader.read_status(instance.status, &parse_instance_status);
  reader.read_newer("promised", instance.promised);
  reader.read_newer("starts", instance.starts);
  reader.read("deletion_protection", instance.deletion_protection);
  reader.read("prepaid", instance.prepaid);
  reader.read("resource_group", instance.resource_group);
  reader.read("created", instance.created);
  reader.read("started", instance.started);
  reader.read("tags", instance.tags);
  reader.read_newer("iops_limit", instance.iops_limit);
  reader.read_newer("throughput_limit", instance.throughput_limit);
  return reader.finish(std::move(instance));
}

std::string to_json(const TokenRecord& token) {
  const Json json = {
      {"action", token.action},
      {"token", token.token},
      {"parameters", token.parameters_checksum},
      {"reply", token.reply_json},
      {"created", to_number(token.created)},
  };
  return json.dump();
}

Result<TokenRecord> token_from_json(std::string_view json) {
  MemberReader reader("token", json);
  TokenRecord token;
  reader.read("action", token.action);
  reader.read("token", token.token);
  reader.read("parameters", token.parameters_checksum);
  reader.read("reply", token.reply_json);
  reader.read("created", token.created);
  return reader.finish(std::move(token));
}

std::string to_json(const SnapshotRecord& snapshot) {
  const Json json = {
      {"id", snapshot.id},
      {"region", snapshot.region},
      {"disk", snapshot.disk_id},
      {"chain", snapshot.chain_id},
      {"seq", snapshot.seq},
      {"parent", snapshot.parent},
      {"storage", snapshot.storage},
      {"storage_base", snapshot.storage_base},
      {"epoch", snapshot.epoch},
      {"name", snapshot.snapshot_name},
      {"description", snapshot.description},
      {"size_bytes", snapshot.size_bytes},
      {"system", snapshot.system},
      {"status", name(snapshot.status)},
      {"failure", snapshot.failure},
      {"hidden", snapshot.hidden},
      {"automatic", snapshot.automatic},
      {"retention_days", snapshot.retention_days},
      {"changed_bytes", snapshot.changed_bytes},
      {"stored_bytes", snapshot.stored_bytes},
      {"copy_region", snapshot.copy_region},
      {"copied_retention_days", snapshot.copied_retention_days},
      {"source_snapshot", snapshot.source_snapshot},
      {"source_region", snapshot.source_region},
      {"source_chain", snapshot.source_chain},
      {"group", snapshot.group_id},
      {"resource_group", snapshot.resource_group},
      {"created", to_number(snapshot.created)},
      {"accomplished", to_number(snapshot.accomplished)},
      {"tags", to_json_list(snapshot.tags)},
  };
  return json.dump();
}

Result<SnapshotRecord> snapshot_from_json(std::string_view json) {
  MemberReader reader("snapshot", json);
  SnapshotRecord snapshot;
  reader.read("id", snapshot.id);
  reader.read("region", snapshot.region);
  reader.read("disk", snapshot.disk_id);
  reader.read("chain", snapshot.chain_id);
  reader.read("seq", snapshot.seq);
  reader.read("parent", snapshot.parent);
  reader.read("storage", snapshot.storage);
  reader.read("storage_base", snapshot.storage_base);
  reader.read("epoch", snapshot.epoch);
  reader.read("name", snapshot.snapshot_name);
  reader.read("description", snapshot.description);
  reader.read("size_bytes", snapshot.size_bytes);
  reader.read("system", snapshot.system);
  reader.read_status(snapshot.status, &parse_snapshot_status);
  reader.read("failure", snapshot.failure);
  reader.read("hidden", snapshot.hidden);
  reader.read("automatic", snapshot.automatic);
  reader.read("retention_days", snapshot.retention_days);
  reader.read("changed_bytes", snapshot.changed_bytes);
  reader.read("stored_bytes", snapshot.stored_bytes);
  reader.read_newer("copy_region", snapshot.copy_region);
  reader.read_newer("copied_retention_days", snapshot.copied_retention_days);
  reader.read_newer("source_snapshot", snapshot.source_snapshot);
  reader.read_newer("source_region", snapshot.source_region);
  reader.read_newer("source_chain", snapshot.source_chain);
  reader.read("group", snapshot.group_id);
  reader.read("resource_group", snapshot.resource_group);
  reader.read("created", snapshot.created);
  reader.read("accomplished", snapshot.accomplished);
  reader.read("tags", snapshot.tags);
  return reader.finish(std::move(snapshot));
}

std::string to_json(const ChainRecord& chain) {
  const Json json = {
      {"id", chain.id},
      {"region", chain.region},
      {"disk", chain.disk_id},
      {"next_seq", chain.next_seq},
      {"current", chain.current},
      {"reference_seq", chain.reference_seq},
      {"reference_storage", chain.reference_storage},
      {"reference_epoch", chain.reference_epoch},
      {"created", to_number(chain.created)},
  };
  return json.dump();
}

Result<ChainRecord> chain_from_json(std::string_view json) {
  MemberReader reader("chain", json);
  ChainRecord chain;
  reader.read("id", chain.id);
  reader.read("region", chain.region);
  reader.read("disk", chain.disk_id);
  reader.read("next_seq", chain.next_seq);
  reader.read("current", chain.current);
  reader.read("reference_seq", chain.reference_seq);
  reader.read("reference_storage", chain.reference_storage);
  reader.read("reference_epoch", chain.reference_epoch);
  reader.read("created", chain.created);
  return reader.finish(std::move(chain));
}

std::string to_json(const GroupRecord& group) {
  const Json json = {
      {"id", group.id},
      {"region", group.region},
      {"name", group.group_name},
      {"description", group.description},
      {"instance", group.instance_id},
      {"resource_group", group.resource_group},
      {"created", to_number(group.created)},
      {"tags", to_json_list(group.tags)},
  };
  return json.dump();
}

Result<GroupRecord> group_from_json(std::string_view json) {
  MemberReader reader("snapshot group", json);
  GroupRecord group;
  reader.read("id", group.id);
  reader.read("region", group.region);
  reader.read("name", group.group_name);
  reader.read("description", group.description);
  reader.read("instance", group.instance_id);
  reader.read("resource_group", group.resource_group);
  reader.read("created", group.created);
  reader.read("tags", group.tags);
  return reader.finish(std::move(group));
}

std::string to_json(const KeyRecord& key) {
  const Json json = {
      {"id", key.id},
      {"secret", key.secret},
      {"description", key.description},
      {"active", key.active},
      {"created", to_number(key.created)},
  };
  return json.dump();
}

Result<KeyRecord> key_from_json(std::string_view json) {
  MemberReader reader("access key", json);
  KeyRecord key;
  reader.read("id", key.id);
  reader.read("secret", key.secret);
  reader.read("description", key.description);
  reader.read("active", key.active);
  reader.read("created", key.created);
  return reader.finish(std::move(key));
}

std::string to_json(const PolicyRecord& policy) {
  const Json json = {
      {"id", policy.id},
      {"region", policy.region},
      {"name", policy.policy_name},
      {"hours", policy.hours},
      {"weekdays", policy.weekdays},
      {"retention_days", policy.retention_days},
      {"copy_region", policy.copy_region},
      {"copied_retention_days", policy.copied_retention_days},
      {"resource_group", policy.resource_group},
      {"created", to_number(policy.created)},
      {"changed", to_number(policy.changed)},
      {"tags", to_json_list(policy.tags)},
  };
  return json.dump();
}

Result<PolicyRecord> policy_from_json(std::string_view json) {
  MemberReader reader("snapshot policy", json);
  PolicyRecord policy;
  reader.read("id", policy.id);
  reader.read("region", policy.region);
  reader.read("name", policy.policy_name);
  reader.read("hours", policy.hours);
  reader.read("weekdays", policy.weekdays);
  reader.read("retention_days", policy.retention_days);
  reader.read_newer("copy_region", policy.copy_region);
  reader.read_newer("copied_retention_days", policy.copied_retention_days);
  reader.read("resource_group", policy.resource_group);
  reader.read("created", policy.created);
  reader.read("changed", policy.changed);
  reader.read("tags", policy.tags);
  return reader.finish(std::move(policy));
}

}  // namespace clouddisk
