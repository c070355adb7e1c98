#include "engine/qos/faulty_device.h"

namespace clouddisk {
namespace {

FaultTarget write_target(std::uint64_t offset, std::uint64_t length) {
  FaultTarget target;
  target.op = kFaultWrite;
  target.offset = offset;
  target.length = length;
  target.may_lose = true;
  return target;
}

}  // namespace

Task<Result<Buffer>> FaultyDevice::faulty_read(std::uint64_t offset, std::uint32_t length) {
  FaultTarget target;
  target.op = kFaultRead;
  target.offset = offset;
  target.length = length;
  target.has_data = true;
  const FaultEffect effect = co_await plan_.meet(target);
  if (effect.error) co_return *effect.error;
  auto data = co_await below_.read(offset, length);
  if (data && effect.flip_byte) flip_byte(data->span(), *effect.flip_byte);
  co_return data;
}

Task<Result<void>> FaultyDevice::faulty_write(std::uint64_t offset, Buffer data, bool fua) {
  FaultTarget target = write_target(offset, data.size());
  target.has_data = true;
  target.takes_space = true;
  const FaultEffect effect = co_await plan_.meet(target);
  if (effect.error) co_return *effect.error;
  if (effect.drop) co_return Result<void>{};
  if (effect.flip_byte) flip_byte(data.span(), *effect.flip_byte);
  if (effect.keep_bytes) {
    if (*effect.keep_bytes == 0) co_return Result<void>{};
    data = data.slice(0, *effect.keep_bytes);
  }
  co_return co_await below_.write(offset, std::move(data), fua);
}

Task<Result<void>> FaultyDevice::faulty_flush() {
  FaultTarget target;
  target.op = kFaultFlush;
  target.may_lose = true;
  const FaultEffect effect = co_await plan_.meet(target);
  if (effect.error) co_return *effect.error;
  if (effect.drop) co_return Result<void>{};
  co_return co_await below_.flush();
}

Task<Result<void>> FaultyDevice::faulty_trim(std::uint64_t offset, std::uint64_t length, bool fua) {
  const FaultEffect effect = co_await plan_.meet(write_target(offset, length));
  if (effect.error) co_return *effect.error;
  if (effect.drop || effect.keep_bytes == 0U) co_return Result<void>{};
  co_return co_await below_.trim(offset, effect.keep_bytes.value_or(length), fua);
}

Task<Result<void>> FaultyDevice::faulty_zeroes(std::uint64_t offset, std::uint64_t length,
                                               ZeroOptions options) {
  FaultTarget target = write_target(offset, length);
  target.takes_space = true;
  const FaultEffect effect = co_await plan_.meet(target);
  if (effect.error) co_return *effect.error;
  if (effect.drop || effect.keep_bytes == 0U) co_return Result<void>{};
  co_return co_await below_.write_zeroes(offset, effect.keep_bytes.value_or(length), options);
}

}  // namespace clouddisk
