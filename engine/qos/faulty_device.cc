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
  if (effect.flip_byte) flip_byte(data.span(), *effect.flip_byte);
  const std::vector<FaultRange> kept = effect.kept(data.size());
  for (const FaultRange& piece : kept) {
    auto wrote = co_await below_.write(offset + piece.begin,
                                       data.slice(piece.begin, piece.end - piece.begin), fua);
    if (!wrote) co_return wrote;
  }
  co_return Result<void>{};
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
  const std::vector<FaultRange> kept = effect.kept(length);
  for (const FaultRange& piece : kept) {
    auto trimmed = co_await below_.trim(offset + piece.begin, piece.end - piece.begin, fua);
    if (!trimmed) co_return trimmed;
  }
  co_return Result<void>{};
}

Task<Result<void>> FaultyDevice::faulty_zeroes(std::uint64_t offset, std::uint64_t length,
                                               ZeroOptions options) {
  FaultTarget target = write_target(offset, length);
  target.takes_space = true;
  const FaultEffect effect = co_await plan_.meet(target);
  if (effect.error) co_return *effect.error;
  const std::vector<FaultRange> kept = effect.kept(length);
  for (const FaultRange& piece : kept) {
    auto cleared =
        co_await below_.write_zeroes(offset + piece.begin, piece.end - piece.begin, options);
    if (!cleared) co_return cleared;
  }
  co_return Result<void>{};
}

}  // namespace clouddisk
