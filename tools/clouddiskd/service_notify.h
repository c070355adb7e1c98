// service_notify.h: tells a service manager (systemd's sd_notify protocol) how the daemon is.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace clouddisk {

// Sends "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=…". Does nothing when nobody asked to be
// told
// ($NOTIFY_SOCKET). Never blocks.
void notify_service_manager(std::string_view state);

// How often the manager wants to hear WATCHDOG=1 (half of its limit); nothing: never.
std::optional<std::chrono::microseconds> watchdog_interval();

}  // namespace clouddisk
