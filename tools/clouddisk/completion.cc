// Shell completion scripts, generated from the command tree: they can't miss a command or a flag.
#include <algorithm>

#include "tools/clouddisk/session.h"

namespace clouddisk::cli {
namespace {

struct Level {
  std::string path;  // "disk create"; empty for the program itself
  std::string purpose;
  std::vector<std::string> words;                             // subcommands, then flags
  std::vector<std::pair<std::string, std::string>> flags;     // with their purpose
  std::vector<std::pair<std::string, std::string>> children;  // with their purpose
  bool takes_disk = false;
};

void collect(const CLI::App& app, const std::string& path, std::vector<Level>& levels) {
  Level level;
  level.path = path;
  level.purpose = app.get_description();
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    level.words.push_back(child->get_name());
    level.children.emplace_back(child->get_name(), child->get_description());
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      level.words.push_back("--" + name);
      level.flags.emplace_back(name, option->get_description());
    }
    const std::string positional = option->get_name(true, false);
    if (positional.starts_with("DISK")) level.takes_disk = true;
  }
  levels.push_back(level);
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    collect(*child, path.empty() ? child->get_name() : path + ' ' + child->get_name(), levels);
  }
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

// Both shells: the words before the cursor that are neither flags nor their values name the level.
std::string bash_script(const std::vector<Level>& levels) {
  std::string out =
      "# bash completion for clouddisk; made by: clouddisk completion bash\n"
      "_clouddisk() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} path= word words disks=\n"
      "  local i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    word=${COMP_WORDS[i]}\n"
      "    case $word in\n"
      "      --root|--api|--output) ((i++)) ;;\n"
      "      -*) ;;\n"
      "      *) case \"${path:+$path }$word\" in\n";
  std::string paths;
  for (const Level& level : levels) {
    if (!level.path.empty()) paths += (paths.empty() ? "" : "|") + ("\"" + level.path + "\"");
  }
  out += "           " + paths + ") path=\"${path:+$path }$word\" ;;\n         esac ;;\n";
  out += "    esac\n  done\n  case $path in\n";
  for (const Level& level : levels) {
    out += fmt::format("    \"{}\") words=\"{}\"{} ;;\n", level.path, joined(level.words),
                       level.takes_disk ? " disks=1" : "");
  }
  out +=
      "  esac\n"
      "  [[ -n $disks && $current != -* ]] && words=\"$(clouddisk disk list --ids 2>/dev/null)\"\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
      "}\n"
      "complete -o default -F _clouddisk clouddisk\n";
  return out;
}

std::string zsh_script(const std::vector<Level>& levels) {
  return "#compdef clouddisk\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script(levels);
}

std::string quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 2) {
    text.insert(at, 1, '\\');
  }
  return "'" + text + "'";
}

std::string fish_script(const std::vector<Level>& levels) {
  std::string out =
      "# fish completion for clouddisk; made by: clouddisk completion fish\n"
      "complete -c clouddisk -f\n";
  for (const Level& level : levels) {
    std::string condition = "__fish_use_subcommand";
    if (!level.path.empty()) {
      condition = "__fish_seen_subcommand_from " + level.path.substr(0, level.path.find(' '));
      const std::size_t blank = level.path.find(' ');
      if (blank != std::string::npos) {
        condition += "; and __fish_seen_subcommand_from " + level.path.substr(blank + 1);
      } else if (!level.children.empty()) {
        std::vector<std::string> verbs;
        for (const auto& [verb, purpose] : level.children) verbs.push_back(verb);
        condition += "; and not __fish_seen_subcommand_from " + joined(verbs);
      }
    }
    for (const auto& [verb, purpose] : level.children) {
      out += fmt::format("complete -c clouddisk -n {} -a {} -d {}\n", quoted(condition), verb,
                         quoted(purpose));
    }
    for (const auto& [flag, purpose] : level.flags) {
      out += fmt::format("complete -c clouddisk -n {} -l {} -d {}\n", quoted(condition), flag,
                         quoted(purpose));
    }
    if (level.takes_disk) {
      out += fmt::format("complete -c clouddisk -n {} -a '(clouddisk disk list --ids)'\n",
                         quoted(condition));
    }
  }
  return out;
}

}  // namespace

void add_completion_command(CLI::App& root, Session& session) {
  CLI::App* command =
      add_command(root, "completion", "Print a completion script for a shell",
                  "  clouddisk completion bash > /etc/bash_completion.d/clouddisk\n"
                  "  clouddisk completion zsh > ~/.zfunc/_clouddisk\n"
                  "  clouddisk completion fish > ~/.config/fish/completions/clouddisk.fish");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("");
  command->callback([shell, &root, &session] {
    session.command = [shell, &root] {
      std::vector<Level> levels;
      collect(root, "", levels);
      print_text(*shell == "bash"  ? bash_script(levels)
                 : *shell == "zsh" ? zsh_script(levels)
                                   : fish_script(levels));
      return kExitOk;
    };
  });
}

}  // namespace clouddisk::cli
