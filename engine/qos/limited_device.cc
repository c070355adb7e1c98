#include "engine/qos/limited_device.h"

namespace clouddisk {
namespace {

std::uint64_t nanoseconds(Duration duration) {
  return static_cast<std::uint64_t>(duration.count());
}

}  // namespace

LimitedDevice::LimitedDevice(BlockDevice& below, DiskLimits limits)
    : below_(below), gate_(below.ring(), limits) {}

LimitedDevice::UnderWay::UnderWay(LimitedDevice& device, TimePoint admitted)
    : since(admitted), device_(&device), previous_(device.last_) {
  (previous_ != nullptr ? previous_->next_ : device.first_) = this;
  device.last_ = this;
}

void LimitedDevice::UnderWay::end() {
  if (device_ == nullptr) return;
  (previous_ != nullptr ? previous_->next_ : device_->first_) = next_;
  (next_ != nullptr ? next_->previous_ : device_->last_) = previous_;
  device_ = nullptr;
}

// Waits for the limits; answers when the request was let go.
Task<TimePoint> LimitedDevice::enter(IoCost cost) {
  const Duration waited = co_await gate_.pass(cost);
  counters_.throttled_nanoseconds += nanoseconds(waited);
  co_return ring().now();
}

Task<void> LimitedDevice::emulate_latency(TimePoint admitted) {
  const TimePoint served = ring().now();
  if (served < admitted + nominal_latency_) {
    co_await ring().sleep_until(admitted + nominal_latency_);
    counters_.emulated_nanoseconds += nanoseconds(ring().now() - served);
  }
}

Task<Result<Buffer>> LimitedDevice::read(std::uint64_t offset, std::uint32_t length) {
  const TimePoint arrived = ring().now();
  const IoCost cost = cost_of(gate_.limits().size_cost, length);
  TimePoint admitted = arrived;
  if (!gate_.try_pass(cost)) admitted = co_await enter(cost);
  UnderWay under_way(*this, admitted);
  auto result = co_await below_.read(offset, length);
  under_way.end();
  if (nominal_latency_ > Duration::zero()) co_await emulate_latency(admitted);
  ++counters_.reads;
  counters_.read_nanoseconds += nanoseconds(ring().now() - arrived);
  if (result) {
    counters_.read_bytes += length;
  } else {
    ++counters_.errors;
  }
  co_return result;
}

Task<Result<void>> LimitedDevice::write(std::uint64_t offset, Buffer data, bool fua) {
  const TimePoint arrived = ring().now();
  const std::uint64_t length = data.size();
  const IoCost cost = cost_of(gate_.limits().size_cost, length);
  TimePoint admitted = arrived;
  if (!gate_.try_pass(cost)) admitted = co_await enter(cost);
  UnderWay under_way(*this, admitted);
  auto result = co_await below_.write(offset, std::move(data), fua);
  under_way.end();
  if (nominal_latency_ > Duration::zero()) co_await emulate_latency(admitted);
  count_write(arrived, result, length);
  co_return result;
}

std::optional<Task<Result<void>>> LimitedDevice::write_now(std::uint64_t offset,
                                                           std::span<const std::byte> data,
                                                           bool fua) {
  const TimePoint arrived = ring().now();
  const IoCost cost = cost_of(gate_.limits().size_cost, data.size());
  if (!gate_.may_pass(cost)) return std::nullopt;
  auto begun = below_.write_now(offset, data, fua);
  if (!begun) return std::nullopt;
  CHECK(gate_.try_pass(cost));
  return finish_write(arrived, data.size(), std::move(*begun));
}

Task<Result<void>> LimitedDevice::finish_write(TimePoint arrived, std::uint64_t length,
                                               Task<Result<void>> begun) {
  UnderWay under_way(*this, arrived);
  auto result = co_await std::move(begun);
  under_way.end();
  if (nominal_latency_ > Duration::zero()) co_await emulate_latency(arrived);
  count_write(arrived, result, length);
  co_return result;
}

void LimitedDevice::count_write(TimePoint arrived, const Result<void>& result,
                                std::uint64_t length) {
  ++counters_.writes;
  counters_.write_nanoseconds += nanoseconds(ring().now() - arrived);
  if (result) {
    counters_.written_bytes += length;
  } else {
    ++counters_.errors;
  }
}

Task<Result<void>> LimitedDevice::flush() {
  const TimePoint arrived = ring().now();
  UnderWay under_way(*this, arrived);
  auto result = co_await below_.flush();
  under_way.end();
  ++counters_.flushes;
  counters_.flush_nanoseconds += nanoseconds(ring().now() - arrived);
  if (!result) ++counters_.errors;
  co_return result;
}

Task<Result<void>> LimitedDevice::trim(std::uint64_t offset, std::uint64_t length, bool fua) {
  const IoCost cost{1, 0};
  const TimePoint admitted = co_await enter(cost);
  UnderWay under_way(*this, admitted);
  auto result = co_await below_.trim(offset, length, fua);
  under_way.end();
  ++counters_.trims;
  if (!result) ++counters_.errors;
  co_return result;
}

Task<Result<void>> LimitedDevice::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                               ZeroOptions options) {
  const IoCost cost{1, 0};
  const TimePoint admitted = co_await enter(cost);
  UnderWay under_way(*this, admitted);
  auto result = co_await below_.write_zeroes(offset, length, options);
  under_way.end();
  ++counters_.trims;
  if (!result) ++counters_.errors;
  co_return result;
}

Task<Result<std::vector<Extent>>> LimitedDevice::extents(std::uint64_t offset, std::uint64_t length,
                                                         std::uint32_t extents_max) {
  return below_.extents(offset, length, extents_max);
}

Task<Result<void>> LimitedDevice::prefetch(std::uint64_t offset, std::uint64_t length) {
  return below_.prefetch(offset, length);
}

}  // namespace clouddisk
