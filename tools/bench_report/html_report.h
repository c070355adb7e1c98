// html_report.h: a report as one page: no other file, no script, nothing from a network; readable
// on a light or dark screen and on paper. Pure.
#pragma once

#include <string>

#include "tools/bench_report/report.h"

namespace clouddisk::bench {

std::string to_html(const Report& report);

}  // namespace clouddisk::bench
