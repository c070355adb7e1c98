// control_impl.h: inside of Control: its state and the actions, one method each. The table that
// names them is in control.cc.
//
// The order of every change: the catalog says what is about to be (Creating, Attaching, …), the
// storage follows, the catalog says that it is. A crash between any two steps leaves a state from
// which settle() finishes or undoes the change; what a client was told already it finishes.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/random.h"
#include "engine/catalog/catalog.h"
#include "engine/catalog/image_rules.h"
#include "engine/catalog/tag_rules.h"
#include "engine/control/change_locks.h"
#include "engine/control/control.h"
#include "engine/control/outcome.h"
#include "engine/control/params.h"
#include "engine/monitor/disk_event.h"
#include "engine/monitor/disk_point.h"
#include "engine/qos/category.h"
#include "engine/ring/sync.h"

namespace clouddisk {

// The answer to DryRun.
Outcome would_succeed();

struct ControlRequest {
  ControlRequest(Ring& ring, Params given, Caller from)
      : params(std::move(given)), caller(from), reader(params), answered(ring) {}
  ControlRequest(const ControlRequest&) = delete;

  const Params params;
  const Caller caller;
  ParamReader reader;
  // Whether a record there is among what the request asks to see.
  bool asks_for(const std::string& region, const std::string& zone) const {
    return (!reader.has("RegionId") || region == at.region) &&
           (!reader.has("ZoneId") || zone == at.zone);
  }
  bool asks_for(const std::string& region) const {
    return !reader.has("RegionId") || region == at.region;
  }

  bool dry_run = false;
  Location at;                       // where it is about: as it says, or the default
  std::optional<TokenRecord> token;  // to be kept with the answer

  // Whether the caller wants its answer when all is done, or when it is on record: see announce().
  bool waits = true;
  std::optional<Outcome> answer;  // the first counts
  Signal answered;
  void give(Outcome outcome) {
    if (answer) return;
    answer = std::move(outcome);
    answered.wake_all();
  }

  bool counted = false;                 // in Control::Impl::unfinished
  ChangeLocks::Guard* guard = nullptr;  // of a change, borrowed
  // Others wait for what the change has just made up, too, until it is done.
  void hold(const std::string& id) {
    if (guard != nullptr) guard->add(id);
  }
};

struct Control::Impl {
  Impl(Ring& ring_in, ReplicaSet& replicas_in, DiskHost& host_in, Options options_in,
       Profile profile_in);

  Ring& ring;
  ReplicaSet& replicas;
  DiskHost& host;
  const Options options;
  const Profile profile;
  Random random;
  std::unique_ptr<Catalog> catalog;
  ChangeLocks changing;  // held by an action that changes something: all of it, or what it is about
  WaitGroup performing;
  bool closing = false;
  bool unsettled = false;  // a change could be neither finished nor undone; settle() tries again
  // By disk, when its automatic snapshot is tried again; by snapshot, when its policy's copy is.
  std::map<std::string, WallTime> retries;
  WallTime settle_retry{};  // the same of what could not be settled
  Duration settle_pause{};  // until then; longer each time
  // Beyond that, answers come when all is done: what goes on has to be bounded.
  static constexpr std::size_t kUnfinishedMax = 256;
  std::size_t unfinished = 0;  // actions that were answered and go on
  // Images and policies that are not on record yet, and the region of each.
  std::map<std::string, std::string> planned_images, planned_policies;
  WallTime expiry_retry{};  // the same of snapshots whose retention has passed
  // Storages that their disks have no more, and that may be there yet. Those of an earlier life are
  // found by looking: see drop_former_storages().
  std::set<std::string> former_storages;
  bool awaits_captures = false;  // a deleted disk stays until its snapshot is captured
  bool untidy = false;           // a capture that borrowed from another disk's snapshot has ended

  using Action = Task<Outcome> (Impl::*)(ControlRequest&);
  struct Entry {
    std::string_view name;
    Action run;
    bool changes = false;
    bool keeps_token = false;
    bool local_only = false;
    bool own_ids = false;  // changes nothing but what it names or makes; see change_scope.cc
  };
  static const Entry* find_action(std::string_view name);

  // --- control.cc ---
  Task<void> carry_out(std::shared_ptr<ControlRequest> request);
  Task<Outcome> dispatch(ControlRequest& request);
  Task<Outcome> run_change(const Entry& entry, ControlRequest& request);
  Verdict check_common(const ControlRequest& request) const;
  std::string new_id(std::string_view prefix, std::string_view region = {});  // empty: home
  WallTime now() const { return ring.wall_now(); }
  DiskSettings settings_of(const DiskRecord& disk) const;
  StoreSettings store_of(const DiskRecord& disk) const;
  bool is_served(const DiskRecord& disk) const;
  // Commits; an error becomes the refusal to answer.
  Task<Verdict> commit(CatalogChange change);
  // Commits the last step together with the token, if the request has one.
  Task<Outcome> commit_and_answer(CatalogChange change, ControlRequest& request, Json answer);
  void put_token(CatalogChange& change, ControlRequest& request, const Json& answer) const;
  void prune_tokens(CatalogChange& change) const;

  static std::string token_key(std::string_view action, std::string_view token);

  // --- change_scope.cc ---
  // What a change is about: what is its own until it is done, and what others only share with it.
  struct Scope {
    bool all = false;
    ChangeLocks::Keys own, shared;
    bool operator==(const Scope&) const = default;
  };
  Scope scope_of(const Entry& entry, const ControlRequest& request) const;
  // `goes`: it is deleted, with its automatic snapshots.
  void add_disk(const std::string& id, bool goes, Scope& scope) const;
  void add_instance(const std::string& id, bool goes, Scope& scope) const;
  void add_named(const Entry& entry, const ParamReader& reader, Scope& scope) const;
  void add_policies(const Entry& entry, const ControlRequest& request, Scope& scope) const;
  void add_sources(const Entry& entry, const ControlRequest& request, Scope& scope) const;
  Task<ChangeLocks::Guard> lock_for(const Entry& entry, ControlRequest& request);

  // --- promises.cc ---
  // Commits what is about to be. A caller that does not wait is answered then; what goes wrong
  // later is in the log, and in the state that it sees.
  Task<Verdict> announce(CatalogChange change, ControlRequest& request, const Json& answer);
  // Before promised disks are exported: from here on there may be data in them.
  Task<Verdict> mark_made(std::span<const DiskRecord> disks, ControlRequest& request);
  static DiskRecord given_up(DiskRecord disk);
  static InstanceRecord given_up(InstanceRecord instance);
  // Whoever has been promised what is gone may use the same token again.
  void forget_tokens(const std::set<std::string>& gone, CatalogChange& change) const;
  // That of a caller who does not wait; what is left goes on.
  void answer_early(ControlRequest& request, Outcome outcome);
  // What clients were told, and a crash or a failure cut off, is done; what can't be done is given
  // up: it is Deleting, or where it was. False: it could not be put on record.
  Task<bool> keep_promises();
  Task<bool> make_what_was_promised();
  Task<Result<void>> make_anew(DiskRecord disk);
  Task<bool> put_on_record(CatalogChange change);
  Task<void> keep_promise(InstanceRecord instance, CatalogChange& change);
  Task<void> keep_promise(DiskRecord disk, CatalogChange& change);

  // --- settle.cc ---
  // Finishes or undoes what a crash or a failure interrupted.
  Task<void> settle();
  Task<void> settle_if_need_be();
  // An error that may be no more in a moment: what it stopped is tried again, not given up.
  static bool may_pass(Errc code);
  Task<Result<void>> serve_disks_of(std::string instance_id);
  Task<bool> stop_disks_of(std::string instance_id);
  // At start: whoever was filling a disk has lost the connection.
  Task<void> give_up_imports();
  // Stops the disk and removes all that it stored, but for its snapshots.
  enum class Removal {
    kDone,
    kAwaitsCapture,  // It is stopped; a snapshot still needs what it stored.
    kFailed,
  };
  Task<Removal> remove_storage(DiskRecord disk);
  // One that is Deleting: its automatic snapshots, its storage and its record go, as in settle().
  Task<void> finish_deletion(DiskRecord disk);
  // Of a disk that goes: what only it needed is for tidy().
  void let_go(const DiskRecord& disk);
  bool is_captured(const DiskRecord& disk) const;
  // Finishes the release of one instance, as settle() does; what can't be done now is left to it.
  Task<void> release(std::string instance_id);
  // Exports every attached disk of a running instance.
  Task<void> serve_all();
  Task<Result<void>> ensure_local_instance();

  // --- unknown_places.cc ---
  void tell_of_unknown_places() const;

  // --- disk_actions.cc ---
  // What CreateDisk, or DataDisk.N of an instance, asks for, with the rules: empty or of a
  // snapshot.
  Verdict read_data_disk(ParamReader& reader, std::string_view category_name,
                         DiskRecord& disk) const;
  Task<Outcome> create_disk(ControlRequest& request);
  Task<Outcome> attach_disk(ControlRequest& request);
  Task<Outcome> detach_disk(ControlRequest& request);
  Task<Outcome> delete_disk(ControlRequest& request);
  Task<Outcome> resize_disk(ControlRequest& request);
  Task<Outcome> modify_disk_spec(ControlRequest& request);
  Task<Outcome> modify_disk_attribute(ControlRequest& request);
  // The steps, for disks that satisfy the rules.
  Task<Verdict> make_storage(std::vector<DiskRecord> disks, ControlRequest& request,
                             std::vector<InstanceRecord> instances = {});
  Task<Outcome> apply_or_restore(DiskRecord before, DiskRecord after, ControlRequest& request,
                                 Json answer);
  Verdict find_disk(std::string_view id, const DiskRecord*& disk) const;
  Verdict find_instance(std::string_view id, const InstanceRecord*& instance) const;

  // --- system_disk_actions.cc ---
  Task<Outcome> replace_system_disk(ControlRequest& request);
  // The new one, which is made, is the instance's, and the old one goes.
  void put_exchange(DiskRecord disk, DiskRecord old_disk, CatalogChange& change) const;

  // --- instance_actions.cc ---
  Task<Outcome> create_instance(ControlRequest& request);
  Task<Outcome> run_instances(ControlRequest& request);
  Task<Outcome> start_instance(ControlRequest& request);
  Task<Outcome> stop_instance(ControlRequest& request);
  Task<Outcome> reboot_instance(ControlRequest& request);
  Task<Outcome> modify_instance_limits(ControlRequest& request);
  Task<Outcome> delete_instance(ControlRequest& request);
  // The instance and its disks are Deleting, or on the way to Available.
  void put_release(const InstanceRecord& instance, CatalogChange& change) const;
  struct NewInstance {
    InstanceRecord instance;
    std::vector<DiskRecord> disks;
  };
  Task<Outcome> build_instances(std::vector<NewInstance> plans, InstanceStatus final_status,
                                ControlRequest& request, Json answer);
  // What is to be started or stopped, as it was; the disks with the size that they will have.
  struct Switching {
    InstanceRecord before;
    std::vector<DiskRecord> disks;
  };
  Task<Verdict> start(std::string id, ControlRequest& request);
  Task<Verdict> stop(std::string id, ControlRequest& request);
  // The two halves of these: what is to be on record first, and what follows.
  Switching plan_start(const std::string& id, CatalogChange& announced) const;
  Switching plan_stop(const std::string& id, CatalogChange& announced) const;
  Task<Verdict> finish_start(Switching switching);
  Task<Verdict> finish_stop(Switching switching);
  Task<Verdict> set_status(InstanceRecord instance, InstanceStatus status);

  // --- batch_actions.cc ---
  Task<Outcome> start_instances(ControlRequest& request);
  Task<Outcome> stop_instances(ControlRequest& request);
  Task<Outcome> delete_instances(ControlRequest& request);
  Task<Outcome> reset_disks(ControlRequest& request);
  Task<Outcome> switch_instances(ControlRequest& request, bool on);
  // InstanceId.N, each once.
  static Verdict read_instance_ids(const ParamReader& reader, std::vector<std::string>& ids);

  // --- instance_plan.cc ---
  // Everything but the ids, which each instance of a request gets anew.
  Verdict plan_instance(ControlRequest& request, NewInstance& plan);
  void give_ids(NewInstance& plan, ControlRequest& request);
  Verdict find_launch_image(const ControlRequest& request, std::string_view region,
                            const ImageRecord*& image, std::string& image_id) const;
  // The disk borrows the image's content.
  static void use_image(const ImageRecord& image, DiskRecord& system);
  std::vector<Params> data_disks_with(const ImageRecord* image, const DiskRecord& system,
                                      std::vector<Params> asked) const;

  // --- describe_actions.cc ---
  Task<Outcome> describe_disks(ControlRequest& request);
  Task<Outcome> describe_instances(ControlRequest& request);
  Task<Outcome> describe_instance_status(ControlRequest& request);
  Task<Outcome> describe_instance_attribute(ControlRequest& request);
  Task<Outcome> describe_regions(ControlRequest& request);
  Task<Outcome> describe_zones(ControlRequest& request);
  Json disk_view(const DiskRecord& disk) const;
  Json instance_view(const InstanceRecord& instance) const;

  // --- snapshot_actions.cc ---
  Task<Outcome> create_snapshot(ControlRequest& request);
  Task<Outcome> delete_snapshot(ControlRequest& request);
  Task<Outcome> create_snapshot_group(ControlRequest& request);
  Task<Outcome> delete_snapshot_group(ControlRequest& request);
  Verdict find_snapshot(std::string_view id, const SnapshotRecord*& snapshot) const;
  // Freezes the disks at one instant and records a snapshot of each.
  struct NewSnapshot {
    DiskRecord disk;
    SnapshotRecord snapshot;  // but for what the freeze decides
  };
  Task<Verdict> take(std::vector<NewSnapshot>& taken, CatalogChange change, ControlRequest& request,
                     Json answer);
  // `request`: whose answer that is; null: nobody's.
  Task<Verdict> remove_snapshot(SnapshotRecord snapshot, ControlRequest* request = nullptr);
  Task<void> hide(std::string snapshot_id);
  Task<void> tidy_after(std::string disk_id, ControlRequest& request);
  // Those that go with a disk that is released. What can't be done now settle() does.
  Task<void> remove_automatic_snapshots(DiskRecord disk);

  // --- modify_snapshots.cc ---
  Task<Outcome> modify_snapshot_attribute(ControlRequest& request);
  Task<Outcome> modify_snapshot_group(ControlRequest& request);
  Task<Outcome> open_snapshot_service(ControlRequest& request);

  // --- copy_actions.cc ---
  Task<Outcome> copy_snapshot(ControlRequest& request);
  // Of the source's chain in that region; a new one if need be.
  ChainRecord chain_of_copies(const SnapshotRecord& source, const std::string& region);
  // What is about to be made in a region.
  struct NewCopies {
    std::string region;
    std::vector<SnapshotRecord> snapshots;      // but for what the freeze decides
    std::map<std::string, ChainRecord> chains;  // by the source's
  };
  // Adds a copy of an accomplished snapshot. `copy` has what the request says of it.
  Verdict plan_copy(const SnapshotRecord& source, SnapshotRecord copy, NewCopies& copies);
  Task<Result<Epoch>> freeze_over_source(SnapshotRecord copy);
  // Makes and records them, together with the change.
  Task<Outcome> make_copies(NewCopies copies, CatalogChange change, ControlRequest& request,
                            Json answer);

  // --- image_copy_actions.cc ---
  Task<Outcome> copy_image(ControlRequest& request);
  Task<Outcome> cancel_copy_image(ControlRequest& request);
  Verdict read_image_copy(ControlRequest& request, const ImageRecord& source,
                          const std::string& region, ImageRecord& copy);

  // --- task_actions.cc ---
  Task<Outcome> describe_tasks(ControlRequest& request);
  Task<Outcome> describe_task_attribute(ControlRequest& request);
  Task<Outcome> cancel_task(ControlRequest& request);
  // ModifyDiskSpec from where its rules hold: the disk is to be as `after`.
  Task<Outcome> change_spec(DiskRecord before, DiskRecord after, ControlRequest& request);
  // Finishes the tasks that a crash or a failure cut off.
  Task<void> settle_tasks(CatalogChange& change);
  Verdict find_task(std::string_view id, const ControlRequest& request,
                    const TaskRecord*& task) const;

  // --- image_actions.cc ---
  Task<Outcome> create_image(ControlRequest& request);
  Task<Outcome> modify_image_attribute(ControlRequest& request);
  Task<Outcome> delete_image(ControlRequest& request);
  Task<Outcome> modify_image_share_permission(ControlRequest& request);
  Verdict find_image(std::string_view id, const ControlRequest& request,
                     const ImageRecord*& image) const;
  ImageStatus status_of_image(const ImageRecord& image) const;
  std::size_t instances_of_image(std::string_view id) const;
  // Those that are being made included.
  std::size_t images_in(std::string_view region) const;
  Verdict read_image_texts(ParamReader& reader, ImageRecord& image) const;
  Verdict read_image_disks(ParamReader& reader, ImageRecord& image) const;
  Verdict plan_image_of_instance(const std::string& instance_id, const ControlRequest& request,
                                 ImageRecord& image, std::vector<NewSnapshot>& taken);

  // --- describe_images.cc ---
  Task<Outcome> describe_images(ControlRequest& request);
  Task<Outcome> describe_image_share_permission(ControlRequest& request);
  Json image_view(const ImageRecord& image) const;

  // --- import_actions.cc: ours ---
  Task<Outcome> begin_snapshot_import(ControlRequest& request);
  Task<Outcome> finish_snapshot_import(ControlRequest& request);

  // --- rollback_actions.cc ---
  Task<Outcome> reset_disk(ControlRequest& request);
  Task<Outcome> reinit_disk(ControlRequest& request);
  Task<Outcome> undo_reset_disk(ControlRequest& request);
  Task<Outcome> hydrate_disk(ControlRequest& request);
  Verdict disk_must_be_free_to_change(const DiskRecord& disk) const;
  // The rules of ResetDisk; finds both.
  Verdict plan_reset(std::string_view disk_id, std::string_view snapshot_id,
                     const DiskRecord*& disk, const SnapshotRecord*& snapshot) const;
  // Gives the disk a new storage over `base` (null: empty), and keeps the old one for undo.
  // `request`: whose answer that is; null: nobody's.
  Task<Outcome> begin_anew(DiskRecord disk, const SnapshotRecord* base, ControlRequest* request);
  Task<Verdict> exchange_storage(DiskRecord disk, ChainRecord chain);
  // Of one that is ReIniting: with its new storage made, or as it was before; settle() does the
  // same.
  Task<Verdict> conclude_anew(DiskRecord disk, Result<void> made);

  // --- snapshot_upkeep.cc ---
  static SnapshotSettings settings_of(const SnapshotRecord& snapshot);
  void tell_past();
  // close() waits for what the host tells, too.
  template <class T>
  Task<T> counted(Task<T> task);
  Task<bool> on_captured(CaptureResult result);
  Task<bool> on_capture_failed(std::string snapshot_id, std::string reason);
  Task<bool> on_hydrated(std::string disk_id, std::string storage);
  Task<void> on_released(std::string disk_id);
  Task<void> release_disk(std::string disk_id);
  void note_former(const SnapshotRecord& snapshot);
  ChainRecord chain_of(const DiskRecord& disk) const;  // a new one if need be

  // --- tidy.cc ---
  // Removes hidden snapshots, chains and storages that nothing needs any more. All of `changing` is
  // held.
  Task<void> tidy();
  // The same of one disk, be it gone, which is held.
  Task<void> tidy(std::string disk_id);
  Task<bool> forget_undo(std::vector<DiskRecord> disks);
  Task<bool> drop_snapshots(std::vector<SnapshotRecord> snapshots);
  Task<bool> drop_chains(std::vector<ChainRecord> chains);
  bool is_needed(const std::string& storage) const;
  Task<bool> drop_storage(std::string storage);
  // Of former_storages, those of a disk that are not needed; or all there are, of a disk or of all
  // disks, which are looked for. False: some stay.
  Task<bool> drop_storages(std::string disk_id);
  Task<bool> drop_former_storages(std::string disk_id);
  Task<bool> drop_former_storages();
  bool is_needed(const SnapshotRecord& snapshot) const;

  // --- describe_snapshots.cc ---
  Task<Outcome> describe_snapshots(ControlRequest& request);
  Task<Outcome> describe_snapshot_groups(ControlRequest& request);
  // Of the chains that are wanted, by id.
  Task<std::map<std::string, std::uint64_t>> stored_bytes_of(
      std::function<bool(const ChainRecord&)> is_wanted);
  Task<Outcome> describe_snapshot_links(ControlRequest& request);
  Task<Outcome> describe_snapshots_usage(ControlRequest& request);
  Task<Outcome> describe_disk_hydration(ControlRequest& request);
  Json hydration_view(const DiskRecord& disk) const;
  Json snapshot_view(const SnapshotRecord& snapshot) const;
  std::string progress_of(const SnapshotRecord& snapshot) const;
  std::int64_t remaining_seconds(const SnapshotRecord& snapshot) const;
  SnapshotStatus status_of(const GroupRecord& group) const;

  // --- monitor_actions.cc ---
  Task<Outcome> describe_disk_monitor_data(ControlRequest& request);
  Task<Outcome> describe_instance_monitor_data(ControlRequest& request);
  Task<Result<std::vector<DiskPoint>>> points_of(std::string disk_id, Minute first, Minute last);

  // --- event_actions.cc ---
  Task<Outcome> describe_disks_full_status(ControlRequest& request);
  Task<Outcome> describe_disk_events(ControlRequest& request);  // ours
  void note_event(EventType type, const std::string& disk_id, std::string text);
  // The same, once an hour for each disk: what is tried again and again.
  void note_at_times(EventType type, const std::string& disk_id, std::string text);

  // --- fault_actions.cc: ours ---
  Task<Outcome> set_disk_fault(ControlRequest& request);
  Task<Outcome> describe_disk_faults(ControlRequest& request);
  Task<Outcome> clear_disk_faults(ControlRequest& request);
  std::uint64_t faults_of(std::string_view disk_id) const;

  // --- scrub_actions.cc: ours ---
  Task<Outcome> describe_scrub(ControlRequest& request);
  Task<Outcome> start_scrub(ControlRequest& request);
  Task<Outcome> stop_scrub(ControlRequest& request);
  Task<Outcome> replace_replica(ControlRequest& request);

  // --- key_actions.cc: access keys, for who is local ---
  Task<Outcome> create_access_key(ControlRequest& request);
  Task<Outcome> list_access_keys(ControlRequest& request);
  Task<Outcome> update_access_key(ControlRequest& request);
  Task<Outcome> delete_access_key(ControlRequest& request);

  // --- tag_actions.cc ---
  Task<Outcome> tag_resources(ControlRequest& request);
  Task<Outcome> untag_resources(ControlRequest& request);
  Task<Outcome> list_tag_resources(ControlRequest& request);
  Task<Outcome> add_tags(ControlRequest& request);
  Task<Outcome> remove_tags(ControlRequest& request);
  Task<Outcome> describe_tags(ControlRequest& request);
  Task<Outcome> describe_resource_by_tags(ControlRequest& request);
  Task<Outcome> add_tags_to(const ControlRequest& request, ResourceKind kind,
                            std::vector<std::string> ids, std::vector<Tag> tags);

  // --- policy_actions.cc ---
  Task<Outcome> create_auto_snapshot_policy(ControlRequest& request);
  Task<Outcome> modify_auto_snapshot_policy(ControlRequest& request);
  Task<Outcome> delete_auto_snapshot_policy(ControlRequest& request);
  Task<Outcome> apply_auto_snapshot_policy(ControlRequest& request);
  Task<Outcome> cancel_auto_snapshot_policy(ControlRequest& request);
  Task<Outcome> describe_auto_snapshot_policies(ControlRequest& request);
  Task<Outcome> describe_auto_snapshot_policy_associations(ControlRequest& request);
  Verdict find_policy(std::string_view id, const ControlRequest& request,
                      const PolicyRecord*& policy) const;
  Verdict read_policy_disks(ControlRequest& request, std::vector<DiskRecord>& disks) const;
  // AutoSnapshotPolicyId of a disk that is about to be made.
  Verdict read_applied_policy(const ParamReader& reader, std::string_view region,
                              DiskRecord& disk) const;
  Json policy_view(const PolicyRecord& policy) const;

  // --- auto_snapshots.cc ---
  Task<void> finish_what_was_left(WallTime at);
  Task<void> keep_schedule(WallTime at);
  // --- policy_copies.cc ---
  Task<void> copy_what_is_due(WallTime at);
  Task<void> copy_for_policy(std::string snapshot_id, WallTime at);
  // `changing` is held, as for the next.
  Task<void> take_if_due(std::string disk_id, std::string policy_id, WallTime at);
  Task<void> keep_automatic_quota(std::string disk_id);
  Task<void> remove_expired(WallTime at);
  std::string reason_to_skip(const DiskRecord& disk) const;

  // --- local_actions.cc: ours, not the cloud's ---
  Task<Outcome> describe_replicas(ControlRequest& request);
  Task<Outcome> resync_replica(ControlRequest& request);
  Task<Outcome> describe_categories(ControlRequest& request);
  Task<Outcome> describe_disk_stats(ControlRequest& request);
  Task<Outcome> describe_disk_export(ControlRequest& request);
};

}  // namespace clouddisk
