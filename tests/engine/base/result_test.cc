#include "engine/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

namespace clouddisk {
namespace {

Result<int> parse(bool good) {
  if (!good) return fail(Errc::kInvalid, "size {} is not {}", 3, 4);
  return 7;
}

TEST(Result, HoldsAValueOrAnError) {
  const Result<int> good = parse(true);
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, 7);
  const Result<int> bad = parse(false);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Errc::kInvalid);
  EXPECT_EQ(bad.error().message, "size 3 is not 4");
}

TEST(Result, MovesAValueThatCannotBeCopied) {
  Result<std::unique_ptr<std::string>> made = std::make_unique<std::string>("text");
  const std::unique_ptr<std::string> taken = *std::move(made);
  EXPECT_EQ(*taken, "text");
}

TEST(Result, AnErrorCanBeItsValueToo) {
  const Result<Errc> good = Errc::kIo;
  EXPECT_TRUE(good);
  EXPECT_EQ(*good, Errc::kIo);
}

TEST(Result, VoidSucceedsByDefault) {
  const Result<void> good;
  EXPECT_TRUE(good);
  const Result<void> bad = fail(Errc::kBusy, "in use");
  EXPECT_FALSE(bad);
  EXPECT_EQ(bad.error().message, "in use");
}

TEST(Result, WrappingKeepsTheCodeAndPutsTheContextInFront) {
  const Error inner = fail(Errc::kCorrupt, "checksum {:x}", 0xabc);
  const Error outer = fail(inner, "segment {}", 9);
  EXPECT_EQ(outer.code, Errc::kCorrupt);
  EXPECT_EQ(outer.message, "segment 9: checksum abc");
}

TEST(Result, ErrnoBecomesOurCodeWithEitherSign) {
  struct Case {
    int value;
    Errc code;
  };
  const Case kCases[] = {{ENOSPC, Errc::kNoSpace},
                         {EDQUOT, Errc::kNoSpace},
                         {ENOENT, Errc::kNotFound},
                         {EEXIST, Errc::kExists},
                         {EBUSY, Errc::kBusy},
                         {EROFS, Errc::kReadOnly},
                         {EACCES, Errc::kPermission},
                         {EPERM, Errc::kPermission},
                         {ETIMEDOUT, Errc::kTimedOut},
                         {EINVAL, Errc::kInvalid},
                         {ENOSYS, Errc::kUnsupported},
                         {ECANCELED, Errc::kShutdown},
                         {EMFILE, Errc::kLimit},
                         {EIO, Errc::kIo},
                         {ENXIO, Errc::kIo}};
  for (const Case& c : kCases) {
    EXPECT_EQ(fail_errno(c.value, "open").code, c.code) << errno_text(c.value);
    EXPECT_EQ(fail_errno(-c.value, "open").code, c.code) << errno_text(c.value);
  }
  EXPECT_EQ(fail_errno(-ENOENT, "open {}", "/a").message, "open /a: No such file or directory");
}

TEST(Result, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Errc::kLimit); ++code) {
    const std::string_view text = name(static_cast<Errc>(code));
    EXPECT_NE(text, "unknown") << code;
    names.insert(text);
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Errc::kLimit) + 1);
}

TEST(ResultDeathTest, AskingForWhatIsNotThereStopsTheProcess) {
  const Result<int> good = 1;
  const Result<int> bad = fail(Errc::kIo, "no");
  const Result<void> nothing;
  EXPECT_DEATH(static_cast<void>(bad.value()), "CHECK failed");
  EXPECT_DEATH(static_cast<void>(good.error()), "CHECK failed");
  EXPECT_DEATH(static_cast<void>(nothing.error()), "CHECK failed");
}

}  // namespace
}  // namespace clouddisk
