// error_codes_world.h: a region in which every rule that a request can break is one request away,
// and tables of such requests. A refusal changes nothing: one world serves all of them.
#pragma once

#include <initializer_list>
#include <map>
#include <string>

#include "tests/engine/control/image_fixture.h"

namespace clouddisk {

// One broken rule. `params` is "Name=value&Name=value"; $name stands for the id of that name.
struct BrokenRule {
  const char* rule;
  const char* action;
  const char* params;
  int http_status;
  const char* code;
};

class ErrorCodes : public ImageTest {
 protected:
  static void SetUpTestSuite() { world_ = new World; }
  static void TearDownTestSuite() {
    delete world_;
    world_ = nullptr;
  }

  static void expect_all(std::initializer_list<BrokenRule> rules);

  struct World {
    World();

    TempDirectory root;
    Daemon daemon;
    std::map<std::string, std::string> ids;

   private:
    void make_instances();
    void make_disks();
    void make_snapshots();
    std::string disk(Params params, const std::string& instance = "i-local");
  };
  static World& world() { return *world_; }

 private:
  static Params read(const std::string& params);
  static Json everything();

  static World* world_;
};

// As parts of `params`.
std::string tags_of(int count);
std::string ids_of(int count, const std::string& name, const std::string& value);

}  // namespace clouddisk
