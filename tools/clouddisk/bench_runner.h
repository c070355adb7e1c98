// bench_runner.h: runs the cases of a plan with fio against a disk that is served, and measures the
// device below when a disk can't reach its target. Blocking; an interrupt ends it ("Interrupted").
#pragma once

#include <string>

#include "tools/bench_report/case_result.h"
#include "tools/bench_report/fio_job.h"
#include "tools/clouddisk/bench_disks.h"
#include "tools/clouddisk/process.h"

namespace clouddisk::cli {

class BenchRunner {
 public:
  // Makes a scratch folder, which goes with the object. Borrows everything.
  static Outcome<BenchRunner> make(const ApiClient& api, const HoldInterrupts& interrupts,
                                   const BenchDaemon& daemon, double seconds);
  BenchRunner(BenchRunner&& other) noexcept;
  BenchRunner& operator=(BenchRunner&&) = delete;
  ~BenchRunner();

  // How much of a disk is used: what half a case's time writes, 64 MiB to 1 GiB.
  std::uint64_t region_bytes(const bench::TestedDisk& disk) const;
  // Writes the region once, so that there is something to read. Nothing for a plan that does not
  // need it.
  Verdict fill(const BenchExport& where, const bench::TestedDisk& disk);
  // A case that can't be run is a result with the reason; only what makes going on useless fails.
  Outcome<bench::CaseResult> run(const bench::Case& plan, const BenchExport& where);

  const std::string& fio_version() const { return fio_version_; }

 private:
  BenchRunner(const ApiClient& api, const HoldInterrupts& interrupts, const BenchDaemon& daemon,
              double seconds)
      : api_(&api), interrupts_(&interrupts), daemon_(&daemon), seconds_(seconds) {}

  struct Waiting {
    double total_ns = 0, throttled_ns = 0, stalled_ns = 0;
  };
  struct Change;
  Outcome<bench::FioResult> run_fio(const bench::FioJob& job);
  Outcome<bench::Timeline> read_timeline(const bench::FioJob& job);
  Outcome<Waiting> waiting_of(const std::string& id) const;
  Verdict pause(double seconds) const;
  Verdict measure_device(bench::CaseResult& result);
  bench::FioJob job_of(const bench::Case& plan, const BenchExport& where) const;

  const ApiClient* api_;
  const HoldInterrupts* interrupts_;
  const BenchDaemon* daemon_;
  double seconds_;
  std::string scratch_;  // empty once moved from
  std::string fio_version_;
  unsigned runs_ = 0;
};

}  // namespace clouddisk::cli
