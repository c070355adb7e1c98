// snapshot_files.h: snapshots as files, and files as snapshots, through qemu-img; what the nouns
// snapshot and image share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "tools/clouddisk/api_client.h"
#include "tools/clouddisk/outcome.h"

namespace clouddisk::cli {

struct ExportArguments {
  std::string id, to;                 // of a snapshot; a file or a device
  std::optional<std::string> format;  // raw or qcow2; none: by the file's name
  bool force = false;                 // replace a file
};
// The file gets its name when it is whole and durable.
Verdict export_snapshot(const ApiClient& api, const ExportArguments& arguments);

struct ImportArguments {
  std::string file;
  std::optional<std::string> format, name, description;
  bool of_system_disk = false;
};
// What FinishSnapshotImport answered. A failure leaves nothing behind, or says what.
Outcome<Json> import_snapshot(const ApiClient& api, const ImportArguments& arguments);

void add_file_format(CLI::App* command, std::optional<std::string>& format);

}  // namespace clouddisk::cli
