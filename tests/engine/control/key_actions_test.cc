// Access keys: who may make them, who sees a secret, what outlives a restart.
#include <sys/stat.h>

#include <filesystem>

#include "tests/engine/control/control_fixture.h"

namespace clouddisk {
namespace {

using AccessKeys = ControlTest;

TEST_F(AccessKeys, AreMadeListedDisabledAndDeletedAndOutliveARestart) {
  std::string id, secret;
  {
    Daemon daemon(root_.path());
    const Json made = daemon.must("CreateAccessKey", {{"Description", "for tests"}});
    id = made["AccessKey"]["AccessKeyId"];
    secret = made["AccessKey"]["AccessKeySecret"];
    EXPECT_EQ(id.size(), 24U);
    EXPECT_TRUE(id.starts_with("LTAI"));
    EXPECT_EQ(secret.size(), 30U);
    const Json other = daemon.must("CreateAccessKey");
    EXPECT_NE(other["AccessKey"]["AccessKeySecret"], secret) << "the seed of tests is not theirs";
  }
  Daemon daemon(root_.path());
  const Json list = daemon.must("ListAccessKeys");
  EXPECT_EQ(list["AccessKeys"]["AccessKey"].size(), 2U);
  EXPECT_EQ(list.dump().find(secret), std::string::npos);
  ASSERT_TRUE(daemon.control->find_access_key(id));
  EXPECT_EQ(daemon.control->find_access_key(id)->secret, secret);
  EXPECT_TRUE(daemon.control->find_access_key(id)->active);
  EXPECT_FALSE(daemon.control->find_access_key("LTAInobody"));
  daemon.must("UpdateAccessKey", {{"UserAccessKeyId", id}, {"Status", "Inactive"}});
  EXPECT_FALSE(daemon.control->find_access_key(id)->active);
  daemon.must("DeleteAccessKey", {{"UserAccessKeyId", id}});
  EXPECT_FALSE(daemon.control->find_access_key(id));
}

TEST_F(AccessKeys, OnesOwnAreTakenAsTheyAre) {
  Daemon daemon(root_.path());
  const Params own{{"UserAccessKeyId", "LTAIexampleKeyId01"},
                   {"UserAccessKeySecret", "exampleSecretForVectors0123456"}};
  daemon.must("CreateAccessKey", own);
  EXPECT_EQ(daemon.control->find_access_key("LTAIexampleKeyId01")->secret,
            "exampleSecretForVectors0123456");
  EXPECT_REFUSED(daemon.ask("CreateAccessKey", own), 409, "EntityAlreadyExists.User.AccessKey");
}

TEST_F(AccessKeys, BrokenRulesChangeNothing) {
  Daemon daemon(root_.path());
  EXPECT_REFUSED(daemon.ask("CreateAccessKey", {{"UserAccessKeyId", "LTAIx"}}), 400,
                 "InvalidParameter");
  EXPECT_REFUSED(daemon.ask("CreateAccessKey", {{"UserAccessKeySecret", "0123456789abcdef"}}), 400,
                 "InvalidParameter");
  EXPECT_REFUSED(daemon.ask("CreateAccessKey", {{"UserAccessKeyId", "a/b/c/d"},
                                                {"UserAccessKeySecret", "0123456789abcdef"}}),
                 400, "InvalidParameter");
  EXPECT_REFUSED(daemon.ask("CreateAccessKey", {{"DryRun", "true"}}), 400, "DryRunOperation");
  EXPECT_REFUSED(daemon.ask("DeleteAccessKey"), 400, "MissingParameter");
  EXPECT_REFUSED(daemon.ask("DeleteAccessKey", {{"UserAccessKeyId", "LTAInobody"}}), 404,
                 "EntityNotExist.User.AccessKey");
  EXPECT_REFUSED(
      daemon.ask("UpdateAccessKey", {{"UserAccessKeyId", "LTAInobody"}, {"Status", "Active"}}), 404,
      "EntityNotExist.User.AccessKey");
  EXPECT_REFUSED(
      daemon.ask("UpdateAccessKey", {{"UserAccessKeyId", "LTAInobody"}, {"Status", "Gone"}}), 400,
      "InvalidParameter");
  EXPECT_TRUE(daemon.must("ListAccessKeys")["AccessKeys"]["AccessKey"].empty());
  for (int i = 0; i < 100; ++i) daemon.must("CreateAccessKey");
  EXPECT_REFUSED(daemon.ask("CreateAccessKey"), 409, "LimitExceeded.User.AccessKey");
}

TEST_F(AccessKeys, WhoSignsCanNeitherMakeKeysNorNameFolders) {
  Daemon daemon(root_.path());
  for (const char* action : {"CreateAccessKey", "ListAccessKeys", "UpdateAccessKey",
                             "DeleteAccessKey", "ReplaceReplica"}) {
    const Reply reply = daemon.machine.ring->block_on(
        daemon.control->perform({{"Action", action}}, Caller::kSigned));
    EXPECT_EQ(reply.http_status, 403) << action;
    EXPECT_NE(reply.body.find("Forbidden.RAM"), std::string::npos) << reply.body;
  }
  const Reply reply = daemon.machine.ring->block_on(
      daemon.control->perform({{"Action", "DescribeDisks"}}, Caller::kSigned));
  EXPECT_EQ(reply.http_status, 200) << reply.body;
}

TEST_F(AccessKeys, NobodyElseReadsTheCatalog) {
  { Daemon daemon(root_.path()); }
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root_.path())) {
    if (entry.path().filename() != "data.mdb") continue;
    ++files;
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms::mask,
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    // As an older program left it.
    std::filesystem::permissions(entry.path(), std::filesystem::perms(0640));
  }
  EXPECT_EQ(files, 3);
  { Daemon daemon(root_.path()); }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root_.path())) {
    if (entry.path().filename() != "data.mdb") continue;
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms::mask,
              std::filesystem::perms(0600));
  }
}

}  // namespace
}  // namespace clouddisk
