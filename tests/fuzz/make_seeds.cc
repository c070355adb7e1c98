// make_seeds.cc: writes the seeds of the corpora: fuzz_seeds FOLDER. Each is a small but complete
// example in the real format, made by the code that writes it.
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/base/bytes.h"
#include "engine/catalog/records.h"
#include "engine/log/replica_set.h"
#include "engine/log/segment_format.h"
#include "engine/map/page.h"
#include "engine/monitor/event_journal.h"
#include "engine/monitor/point_store.h"
#include "nbd/protocol.h"
#include "snapshot/chain_page.h"
#include "snapshot/frame.h"
#include "snapshot/index_records.h"

namespace clouddisk {
namespace {
namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

fs::path root;

void seed(const std::string& target, const std::string& name, std::span<const std::byte> bytes) {
  fs::create_directories(root / target);
  std::ofstream file(root / target / name, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  CHECK(file.good());
}

void add(Bytes& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}
template <class T>
void add_le(Bytes& to, T value) {
  to.resize(to.size() + sizeof value);
  store_le(to.data() + to.size() - sizeof value, value);
}
template <class T>
void add_be(Bytes& to, T value) {
  add_le(to, byte_swap(value));
}

// What the target pads again.
Bytes without_zeros(Bytes bytes) {
  bytes.resize(bytes.size() - 8);  // the checksum
  while (!bytes.empty() && bytes.back() == std::byte{0}) bytes.pop_back();
  return bytes;
}

void superblocks() {
  const std::array<std::array<std::uint64_t, 6>, 4> sets = {{
      // generation and members of each
      {7, 7, 7, 7, 7, 7},
      {9, 3, 9, 3, 5, 7},
      {8, 7, 9, 7, 9, 7},
      {4, 1, 2, 7, 1, 7},
  }};
  int number = 0;
  for (const auto& set : sets) {
    Bytes bytes;
    add_le(bytes, static_cast<std::uint16_t>(7));
    for (std::uint32_t i = 0; i < kReplicaCount; ++i) {
      Superblock superblock;
      superblock.index = i;
      superblock.set_uuid.fill(0x5a);
      superblock.generation = Generation(set[2 * i]);
      superblock.in_sync = static_cast<ReplicaMask>(set[2 * i + 1]);
      Bytes block(kSuperblockSize);
      encode_superblock(superblock, block);
      add(bytes, std::span(block).first(48));
    }
    seed("superblock", "set-" + std::to_string(number++), bytes);
  }
}

constexpr DiskTag kDisk = 0x1122'3344'5566'7788;

std::vector<LogEntry> entries_from(std::uint32_t block) {
  LogEntry write;
  write.lba = Lba(1000);
  write.count = 3;
  write.write = WriteSeq(41);
  write.epoch = Epoch(2);
  write.block = block;
  LogEntry trim = write;
  trim.kind = EntryKind::kTrim;
  trim.count = 1 << 20;
  trim.block = 0;
  LogEntry zero = trim;
  zero.kind = EntryKind::kZero;
  LogEntry moved = write;
  moved.kind = EntryKind::kRelocatedWrite;
  moved.count = 2;
  moved.from = BlockLocation::stored(SegmentSeq(3), 77);
  moved.block = block + 3;
  return {write, trim, zero, moved};
}

void segments() {
  SegmentHeader header;
  header.disk = kDisk;
  header.segment = SegmentSeq(7);
  header.start = {SegmentSeq(7), 1, BatchSeq(90), 0xabc};
  header.durable = {SegmentSeq(6), 500, BatchSeq(80), 0xdef};
  header.created_ns = 1'700'000'000'000'000'000;
  Bytes block(kBlockSize);
  encode_header(header, block);
  seed("segment", "header", without_zeros(block));
  Trailer trailer;
  trailer.segment = SegmentSeq(7);
  trailer.end = {SegmentSeq(7), 400, BatchSeq(120), 0x123};
  trailer.footer_block = 400;
  trailer.footer_blocks = 2;
  trailer.oldest_write = WriteSeq(41);
  encode_trailer(trailer, kDisk, block);
  seed("segment", "trailer", without_zeros(block));

  Batch batch;
  batch.segment = SegmentSeq(7);
  batch.block = 1;
  batch.batch = BatchSeq(90);
  batch.parent = 0xabc;
  batch.epoch = Epoch(2);
  batch.wall_ns = 1'700'000'000'000'000'001;
  batch.durable = header.durable;
  batch.entries = entries_from(2);
  batch.payload_blocks = 5;
  batch.checksums = {1, 2, 3, 4, 5};
  batch.descriptor_blocks = 1;
  Bytes descriptor(kBlockSize);
  encode_descriptor(batch, kDisk, descriptor);
  seed("batch", "mixed", without_zeros(descriptor));
  Batch large = batch;
  large.payload_blocks = 100;
  large.entries.clear();
  large.checksums.assign(100, 9);
  large.descriptor_blocks = descriptor_blocks_for(100, 100);
  for (std::uint32_t i = 0; i < 100; ++i) {
    LogEntry entry = batch.entries[0];
    entry.count = 1;
    entry.lba = Lba(i * 10);
    entry.block = 1 + large.descriptor_blocks + i;
    large.entries.push_back(entry);
  }
  descriptor.resize(large.descriptor_blocks * kBlockSize);
  encode_descriptor(large, kDisk, descriptor);
  seed("batch", "hundred", without_zeros(descriptor));

  Footer footer;
  footer.segment = SegmentSeq(7);
  footer.end = trailer.end;
  footer.entries = batch.entries;
  footer.checksums = batch.checksums;
  Bytes body(kBlockSize);
  encode_footer(footer, kDisk, body);
  encode_trailer(trailer, kDisk, block);
  Bytes both(block.begin() + 32, block.begin() + 64);
  add(both, without_zeros(body));
  seed("footer", "mixed", both);
}

// As index_targets.cc reads it: kind of key, two numbers, length, value.
void add_record(Bytes& to, char kind, std::uint8_t first, std::uint8_t second,
                std::span<const std::byte> value) {
  add_le(to, static_cast<std::uint8_t>(kind));
  add_le(to, first);
  add_le(to, second);
  add_le(to, static_cast<std::uint16_t>(value.size()));
  add(to, value);
}

Page a_page() {
  Page page;
  for (std::uint32_t i = 0; i < 20; ++i) {
    page.entries[i * 3] = {BlockLocation::stored(SegmentSeq(1), 2 + i), 100 + i};
  }
  page.entries[200].location = BlockLocation::zero();
  page.entries[201].location = BlockLocation::trimmed();
  return page;
}

void map_records() {
  Page uniform;
  for (auto& entry : uniform.entries) entry.location = BlockLocation::trimmed();
  seed("map_page", "sparse", encode_page(a_page(), {}));
  seed("map_page", "uniform", encode_page(uniform, {}));
  Bytes checkpoint;
  add_le(checkpoint, std::uint64_t{0});
  add_le(checkpoint, std::uint8_t{1});
  for (const std::uint64_t field : {1, 30, 12, 99, 40, 3, 20, 2, 1, 2, 0}) {
    add_le(checkpoint, field);
  }
  Bytes live;
  add_le(live, std::uint64_t{0});
  add_le(live, std::uint8_t{1});
  add_le(live, std::uint64_t{20});
  const Bytes one = {std::byte{1}};
  Bytes records;
  add_record(records, 'c', 0xff, 0, checkpoint);
  add_record(records, 'p', 0, 1, encode_page(a_page(), {}));
  add_record(records, 'p', 0, 3, encode_page(uniform, {}));
  add_record(records, 'm', 3, 0, one);
  add_record(records, 's', 1, 0, live);
  seed("map_index", "two-versions", records);
}

void chain_records() {
  using namespace snapshot;
  ChainPage page;
  for (unsigned i = 0; i < 16; ++i) page.blocks[i] = PackedBlock(4096, 900, i);
  for (unsigned i = 0; i < 3; ++i) page.blocks[100 + i] = PackedBlock(8192, 3000, i + 2);
  Bytes runs;
  encode_runs(page, runs);
  seed("chain_page", "two-runs", runs);
  Bytes twice = runs;
  add(twice, runs);
  seed("chain_page", "two-pages", twice);

  const auto value = [](std::initializer_list<std::uint64_t> fields) {
    Bytes bytes(8);
    bytes.push_back(std::byte{1});
    for (const std::uint64_t field : fields) add_le(bytes, field);
    return bytes;
  };
  const auto frame = [](std::uint64_t size, std::uint8_t kind, std::uint32_t holds,
                        std::uint64_t of, std::uint64_t used) {
    Bytes bytes(8);
    bytes.push_back(std::byte{kFrameRecordVersion});
    add_le(bytes, size);
    add_le(bytes, kind);
    add_le(bytes, holds);
    add_le(bytes, of);
    add_le(bytes, used);
    return bytes;
  };
  Bytes version(8);
  version.push_back(std::byte{1});
  add_le(version, std::uint64_t{128});  // the frame that repeats it
  ChainPage small;                      // frames at addresses that a key of this format can name
  for (unsigned i = 0; i < 16; ++i) small.blocks[i] = PackedBlock(8, 100, i);
  for (unsigned i = 0; i < 2; ++i) small.blocks[40 + i] = PackedBlock(248, 100, i);
  encode_runs(small, version);
  const Bytes one = {std::byte{1}};
  Bytes records = {std::byte{1}};
  add_record(records, 'c', 0, 0, value({16384}));
  add_record(records, 'f', 8, 0, frame(100, 1, 16, 0, 0xffff));
  add_record(records, 'f', 248, 0, frame(100, 1, 16, 0, 3));
  add_record(records, 'f', 128, 0, frame(100, 2, 2, 0, 2));
  add_record(records, 'g', 1, 0, value({3, 4096, 900}));
  add_record(records, 'p', 0, 1, version);
  add_record(records, 'p', 0, 3, version);
  add_record(records, 'q', 1, 0, one);
  add_record(records, 'q', 3, 0, one);
  add_record(records, 't', 16, 0, value({4096}));
  add_record(records, 'w', 0, 248, one);
  seed("chain_index", "two-versions", records);

  Bytes raw(3 * kBlockSize);
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::byte>(i / 64);
  Bytes blocks;
  append_frame(FrameKind::kBlocks, 1, 5, raw, 3, blocks);
  seed("pack_frame", "compressed", blocks);
  Bytes pages;
  add_le(pages, std::uint64_t{17});
  add(pages, runs);
  Bytes of_pages;
  append_frame(FrameKind::kPages, 1, 5, pages, 3, of_pages);
  seed("pack_frame", "pages", of_pages);
}

void catalog_records() {
  const auto put = [](const std::string& name, const std::string& json) {
    seed("catalog_record", name, as_bytes(json));
  };
  DiskRecord disk;
  disk.id = "d-1";
  disk.disk_name = "data";
  disk.category = "cloud_essd";
  disk.level = "PL1";
  disk.size_gib = 40;
  disk.tags = {{"team", "storage"}};
  disk.policies = {{"sp-1", WallTime(Duration(1))}};
  disk.storage = "d-1";
  put("disk", to_json(disk));
  InstanceRecord instance;
  instance.id = "i-local";
  put("instance", to_json(instance));
  SnapshotRecord snapshot;
  snapshot.id = "s-1";
  snapshot.disk_id = "d-1";
  snapshot.seq = 3;
  snapshot.status = SnapshotStatus::kAccomplished;
  put("snapshot", to_json(snapshot));
  ChainRecord chain;
  chain.id = "sl-1";
  chain.reference_seq = 3;
  put("chain", to_json(chain));
  GroupRecord group;
  group.id = "ssg-1";
  put("group", to_json(group));
  PolicyRecord policy;
  policy.id = "sp-1";
  policy.hours = 1U << 6;
  policy.weekdays = 127;
  policy.retention_days = 7;
  put("policy", to_json(policy));
  TokenRecord token;
  token.action = "CreateDisk";
  token.token = "once";
  token.reply_json = R"({"DiskId":"d-1"})";
  put("token", to_json(token));
}

void monitoring() {
  DiskEvent event;
  event.id = "e-bp1";
  event.disk_id = "d-1";
  event.created = WallTime(std::chrono::seconds(1'767'225'600));
  event.text = "replica 2 is failed: \"gone\"";
  const auto put = [&](const std::string& name) {
    std::string line = encode_event(event);
    line.pop_back();
    seed("disk_event", name, as_bytes(std::string_view(line).substr(17)));
  };
  put("degraded");
  event.id = "e-bp2";
  event.type = EventType::kSnapshotFailed;
  event.ended = event.created;
  event.text.clear();
  put("over");
  const DiskPoint point{29'453'760,
                        60'000,
                        {600, 1200, 600 * 4096, 1200 * 8192, 150'000'000, 600'000'000},
                        0x1122'3344'5566'7788};
  seed("disk_point", "minute", encode_point(point, "d-1"));
}

// --- NBD ---
void request(Bytes& to, nbd::Framing framing, nbd::Command command, std::uint16_t flags,
             std::uint64_t offset, std::uint64_t length, std::size_t payload = 0) {
  static std::uint64_t cookie = 0;
  const bool extended = framing == nbd::Framing::kExtended;
  add_be(to, extended ? nbd::kExtendedRequestMagic : nbd::kRequestMagic);
  add_be(to, flags);
  add_be(to, static_cast<std::uint16_t>(command));
  add_be(to, ++cookie);
  add_be(to, offset);
  if (extended) {
    add_be(to, length);
  } else {
    add_be(to, static_cast<std::uint32_t>(length));
  }
  to.resize(to.size() + payload, std::byte{0x55});
}

void conversation(Bytes& to, nbd::Framing framing) {
  using nbd::Command;
  const auto payload = framing == nbd::Framing::kExtended ? nbd::kFlagPayloadLength : 0;
  const auto write_flags = static_cast<std::uint16_t>(payload | nbd::kFlagFua);
  request(to, framing, Command::kWrite, write_flags, 4096, 512, 512);
  request(to, framing, Command::kRead, 0, 0, 8192);
  request(to, framing, Command::kBlockStatus, nbd::kFlagReqOne, 0, 65536);
  request(to, framing, Command::kTrim, 0, 8192, 4096);
  request(to, framing, Command::kWriteZeroes, nbd::kFlagNoHole, 512, 1024);
  request(to, framing, Command::kCache, 0, 0, 4096);
  request(to, framing, Command::kFlush, 0, 0, 0);
  request(to, framing, Command::kRead, nbd::kFlagDf, 130000, 4096);
  request(to, framing, Command::kDisconnect, 0, 0, 0);
}

void option(Bytes& to, nbd::Option number, std::span<const std::byte> data) {
  add_be(to, nbd::kOptionMagic);
  add_be(to, static_cast<std::uint32_t>(number));
  add_be(to, static_cast<std::uint32_t>(data.size()));
  add(to, data);
}

Bytes name_of_export() {
  Bytes data;
  add_be(data, std::uint32_t{4});
  add(data, as_bytes("disk"));
  return data;
}

void nbd_sessions() {
  for (std::uint8_t framing = 0; framing < 3; ++framing) {
    Bytes bytes = {static_cast<std::byte>((framing + 1) << 2), std::byte{0}};
    conversation(bytes, static_cast<nbd::Framing>(framing));
    seed("nbd", "transmission-" + std::to_string(framing), bytes);
  }
  for (const auto framing :
       {nbd::Option::kAbort, nbd::Option::kStructuredReply, nbd::Option::kExtendedHeaders}) {
    Bytes bytes = {std::byte{0}, std::byte{9}};
    add_be(bytes, std::uint32_t{3});
    option(bytes, nbd::Option::kList, {});
    option(bytes, nbd::Option::kStartTls, {});
    if (framing != nbd::Option::kAbort) {
      option(bytes, framing, {});
      Bytes contexts = name_of_export();
      add_be(contexts, std::uint32_t{1});
      add_be(contexts, std::uint32_t{15});
      add(contexts, as_bytes("base:allocation"));
      option(bytes, nbd::Option::kListMetaContext, contexts);
      option(bytes, nbd::Option::kSetMetaContext, contexts);
    }
    Bytes go = name_of_export();
    add_be(go, std::uint16_t{2});
    add_be(go, std::uint16_t{1});
    add_be(go, std::uint16_t{3});
    option(bytes, nbd::Option::kInfo, go);
    option(bytes, nbd::Option::kGo, go);
    const auto agreed = framing == nbd::Option::kAbort             ? nbd::Framing::kSimple
                        : framing == nbd::Option::kStructuredReply ? nbd::Framing::kStructured
                                                                   : nbd::Framing::kExtended;
    conversation(bytes, agreed);
    seed("nbd", "handshake-" + std::to_string(static_cast<unsigned>(framing)), bytes);
  }
  Bytes old = {std::byte{1}, std::byte{0}};
  add_be(old, std::uint32_t{1});
  option(old, nbd::Option::kExportName, as_bytes("disk"));
  request(old, nbd::Framing::kSimple, nbd::Command::kRead, 0, 0, 512);
  seed("nbd", "export-name", old);
}

void texts() {
  const auto http = [](const std::string& name, const std::string& text) {
    seed("http", name, as_bytes(text));
  };
  http("get",
       "GET /?Action=DescribeDisks&RegionId=cn-local&Tag.1.Key=a&Tag.1.Value=b%20c "
       "HTTP/1.1\r\nHost: localhost\r\n\r\n");
  http("post",
       "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
       "Content-Length: 40\r\n\r\nAction=CreateDisk&Size=40&DiskIds=%5B%5D");
  http("chunked",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "6\r\nAction\r\n8;x=y\r\n=A&B.1=c\r\n0\r\nT: v\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
  http("expect",
       "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 8\r\n"
       "x-acs-action: CreateDisk\r\nConnection: close\r\n\r\nA=1&b=%2");
  http("head",
       "\r\nHEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\nGET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto api = [](const std::string& name, const std::string& text) {
    seed("api", name, as_bytes(text));
  };
  api("life",
      "Action=CreateDisk&Size=40&DiskCategory=cloud_essd&PerformanceLevel=PL1&ClientToken=t\n"
      "@Action=AttachDisk&InstanceId=i-local\n@Action=ResizeDisk&NewSize=80&Type=online\n"
      "@Action=CreateSnapshot&SnapshotName=one\n@Action=DetachDisk&InstanceId=i-local\n"
      "@Action=DescribeDisks&PageSize=10&PageNumber=1\n@Action=DeleteDisk\n");
  api("snapshots",
      "Action=CreateDisk&Size=20&DiskCategory=cloud_efficiency\n@Action=AttachDisk&"
      "InstanceId=i-local\n@Action=CreateSnapshot\n@Action=DescribeSnapshots\n"
      "@Action=CreateDisk&Size=30&DiskCategory=cloud_essd\n@Action=ResetDisk\n"
      "@Action=DeleteSnapshot&Force=true\nAction=DescribeSnapshotLinks\n");
  api("instances",
      "Action=RunInstances&InstanceType=ecs.g7.large&ImageId=m&SystemDisk.Size=40&"
      "SystemDisk.Category=cloud_essd&DataDisk.1.Size=40&Amount=2\n"
      "Action=DescribeInstances&InstanceIds=%5B%22i-local%22%5D\n"
      "@Action=StopInstance\n@Action=ModifyDiskAttribute&DiskName=x&DeleteWithInstance=true\n"
      "@Action=DeleteInstance&Force=true\n");
  api("others",
      "Action=DescribeReplicas\nAction=ResyncReplica&Replica=2\nAction=DescribeRegions\n"
      "Action=DescribeDiskCategories\n@Action=ModifyDiskSpec&PerformanceLevel=PL2\n"
      "@Action=ReInitDisk\n@Action=CreateSnapshotGroup&InstanceId=i-local\nAction=\n");
  const auto edit = [](std::uint16_t page, std::uint16_t at, std::uint8_t value) {
    Bytes bytes;
    add_le(bytes, page);
    add_le(bytes, at);
    add_le(bytes, std::uint8_t{2});
    add_le(bytes, value);
    return bytes;
  };
  seed("lmdb_file", "sound", Bytes{});
  seed("lmdb_file", "a-flag", edit(3, 10, 1));
  seed("lmdb_file", "a-count", edit(1, 80, 9));
  seed("lmdb_file", "a-value", edit(5, 4000, 9));
}

}  // namespace
}  // namespace clouddisk

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
    return 2;
  }
  clouddisk::root = argv[1];
  clouddisk::superblocks();
  clouddisk::segments();
  clouddisk::map_records();
  clouddisk::chain_records();
  clouddisk::catalog_records();
  clouddisk::monitoring();
  clouddisk::nbd_sessions();
  clouddisk::texts();
  return 0;
}
