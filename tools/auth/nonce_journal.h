// nonce_journal.h: used nonces in two files, so that a daemon that was killed knows them again. One
// file is written for as long as a nonce can matter, then the other one, from its beginning.
//
// A record is three little-endian numbers of 64 bits: forget_at with the key in its upper half,
// fingerprint, and the XXH3-64 of both. What is no record is passed over. What is appended is
// not synced: a power cut loses the last seconds. What open() puts in place of a file is.
// Any thread; the calls block.
#pragma once

#include <array>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/ring/listener.h"
#include "tools/auth/nonces.h"

namespace clouddisk::auth {

class NonceJournal {
 public:
  // `path`: of the files but for "-0" and "-1"; mode 0600. A nonce matters for `life` after its
  // use.
  NonceJournal(std::string path, Duration life) : path_(std::move(path)), life_(life) {}

  // What the files hold that still matters. Makes them where there are none.
  Result<std::vector<UsedNonce>> open(WallTime now);
  // When it returns, the record survives the end of the process.
  Result<void> append(const UsedNonce& nonce, WallTime now);

 private:
  std::string name_of(unsigned file) const { return path_ + (file == 0 ? "-0" : "-1"); }
  Result<void> replace(unsigned file, const std::vector<UsedNonce>& nonces);

  std::string path_;
  Duration life_;
  std::mutex lock_;
  std::array<Socket, 2> files_;  // descriptors with one owner
  unsigned current_ = 0;
  WallTime begun_{};  // when the current file was
};

}  // namespace clouddisk::auth
