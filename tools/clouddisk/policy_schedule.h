// policy_schedule.h: hours, weekdays and retention of a snapshot policy, as people write them and
// as the API has them. Pure.
#pragma once

#include <string>
#include <vector>

#include "tools/clouddisk/api_client.h"

namespace clouddisk::cli {

// "6", "06", "06:00" to the API's list: ["6"].
Outcome<std::string> time_points_of(const std::vector<std::string>& times);
// "mon" to "sun", "1" to "7", "all".
Outcome<std::string> weekdays_of(const std::vector<std::string>& days);
// Days, or "forever": -1.
Outcome<std::string> retention_of(const std::string& text);

// Of a policy as DescribeAutoSnapshotPolicyEx shows it.
std::string times_text(const Json& policy);     // "06:00, 18:00"
std::string weekdays_text(const Json& policy);  // "every day", "Mon, Fri"
std::string kept_text(const Json& policy);      // "7 days", "for ever"
std::string copies_text(const Json& policy);    // "eu-central-1, kept 30 days"; empty: nowhere

}  // namespace clouddisk::cli
