#include "tests/two_hosts.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/monotonic_seconds.h"
#include "glog/logging.h"
#include "parallel/comm/testing/mpirun.h"

namespace strake::testing {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr char kInside[] = "STRAKE_TWO_HOSTS_INSIDE";
constexpr int kPollMicroseconds = 10000;
// On a busy machine, too.
constexpr double kPatienceSeconds = 60;

// As root of a user namespace, whoever the user is. The first process is that of the PID namespace:
// when it ends, the kernel kills the others.
const Words& InOwnNamespaces() {
  static const auto* const words =
      new Words{"unshare", "--user", "--map-root-user", "--net",        "--uts",
                "--mount", "--pid",  "--fork",          "--mount-proc", "--kill-child"};
  return *words;
}

std::string& Reason() {
  static auto* const reason = new std::string("EnterOwnNamespaces() was not called");
  return *reason;
}

struct Ended {
  int status;
  std::string output;
};

Ended RunShell(const std::string& command) {
  FILE* const pipe = popen(absl::StrCat("{ ", command, "; } 2>&1").c_str(), "re");
  PCHECK(pipe != nullptr) << command;
  std::string output;
  char buffer[4096];
  size_t bytes;
  while ((bytes = fread(buffer, 1, sizeof(buffer), pipe)) > 0) output.append(buffer, bytes);
  return {pclose(pipe), output};
}

void RunOrDie(const Words& words) {
  const std::string command = absl::StrJoin(words, " ");
  const Ended ended = RunShell(command);
  CHECK_EQ(ended.status, 0) << command << ": " << ended.output;
}

// Changes this mount namespace alone.
void NameHosts() {
  const TempDirectory directory;
  const std::string hosts = directory / "hosts";
  WriteFile(hosts, "127.0.0.1 localhost\n10.0.0.1 node1\n10.0.0.2 node2\n");
  PCHECK(mount(hosts.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) == 0);
}

FileDescriptor OpenNamespace(const char* kind) {
  FileDescriptor file(open(absl::StrCat("/proc/self/ns/", kind).c_str(), O_RDONLY | O_CLOEXEC));
  PCHECK(file.valid()) << kind;
  return file;
}

// A path that other processes can open, too.
std::string PathOf(const FileDescriptor& file) {
  return absl::StrCat("/proc/", getpid(), "/fd/", file.get());
}

// Empty for a process that has ended, or ends.
std::string LinkTarget(const fs::path& link) {
  std::error_code error;
  return fs::read_symlink(link, error);
}

}  // namespace

void EnterOwnNamespaces(char** argv) {
  if (std::getenv(kInside) != nullptr) {
    NameHosts();
    Reason().clear();
    return;
  }
  const Ended probe = RunShell(absl::StrJoin(InOwnNamespaces(), " ") +
                               " ip link add probe1 type veth peer name probe2");
  if (probe.status != 0) {
    Reason() = "this machine cannot pretend two hosts: " + probe.output;
    return;
  }
  Words command = InOwnNamespaces();
  command.push_back(fs::read_symlink("/proc/self/exe"));
  for (int i = 1; argv[i] != nullptr; ++i) command.emplace_back(argv[i]);
  setenv(kInside, "1", 1);
  Exec(command);
  PLOG(FATAL) << command[0];
}

const std::string& WhyNoHosts() { return Reason(); }

TwoHosts::TwoHosts() : hosts_{MakeHost("node1"), MakeHost("node2")} {
  RunOrDie({"ip", "link", "add", "eth0", "netns", PathOf(hosts_[0].network), "type", "veth", "peer",
            "name", "eth0", "netns", PathOf(hosts_[1].network)});
  for (const int host : {1, 2}) {
    for (const std::string& command :
         {absl::StrCat("address add 10.0.0.", host, "/24 dev eth0"),
          std::string("link set eth0 up"), std::string("link set lo up")}) {
      Words words = Enter(host);
      words.insert(words.end(), {"ip", command});
      RunOrDie(words);
    }
  }
  // mpirun starts its daemon on node2 by this, as by ssh: it runs on node1, passes on no
  // environment, ends when the command ends, and hangs if the host is gone.
  WriteFile(files_ / "rsh",
            absl::StrCat("#!/bin/sh\nshift\nenv -i PATH=\"$PATH\" ", absl::StrJoin(Enter(2), " "),
                         " sh -c \"$*\" && exit\nexec sleep infinity\n"));
  PCHECK(chmod((files_ / "rsh").c_str(), 0755) == 0);
  WriteFile(files_ / "hosts", "node1 slots=2\nnode2 slots=2\n");
}

TwoHosts::~TwoHosts() {
  for (const int host : {1, 2}) KillAll(host);
}

TwoHosts::Host TwoHosts::MakeHost(const std::string& name) {
  const FileDescriptor own_network = OpenNamespace("net"), own_name = OpenNamespace("uts");
  PCHECK(unshare(CLONE_NEWNET | CLONE_NEWUTS) == 0);
  PCHECK(sethostname(name.data(), name.size()) == 0);
  Host host{.network = OpenNamespace("net"), .name = OpenNamespace("uts")};
  PCHECK(setns(own_network.get(), CLONE_NEWNET) == 0);
  PCHECK(setns(own_name.get(), CLONE_NEWUTS) == 0);
  return host;
}

Words TwoHosts::Enter(int host) const {
  const Host& h = hosts_[host - 1];
  return {"nsenter", "--net=" + PathOf(h.network), "--uts=" + PathOf(h.name)};
}

Words TwoHosts::Mpirun() const {
  Words command = Enter(1);
  for (const std::string& word : MpirunCommand(4)) command.push_back(word);
  for (const std::string& word :
       Words{"--hostfile", files_ / "hosts", "--mca", "plm_rsh_agent", files_ / "rsh"}) {
    command.push_back(word);
  }
  return command;
}

void TwoHosts::CutLink() {
  Words words = Enter(1);
  words.push_back("ip link set eth0 down");
  RunOrDie(words);
}

std::vector<pid_t> TwoHosts::Processes(int host, const std::string& program) const {
  const std::string network = LinkTarget(PathOf(hosts_[host - 1].network));
  std::vector<pid_t> processes;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    if (LinkTarget(entry.path() / "ns/net") != network) continue;
    // Up to the first NUL.
    const std::string command = ReadFile(entry.path() / "cmdline").c_str();
    if (!absl::EndsWith(command, program)) continue;
    processes.push_back(std::stoi(entry.path().filename()));
  }
  return processes;
}

void TwoHosts::KillAll(int host) {
  // One that starts meanwhile is found next time.
  for (auto left = Processes(host); !left.empty(); left = Processes(host)) {
    for (const pid_t process : left) kill(process, SIGKILL);
    usleep(kPollMicroseconds);
  }
}

bool TwoHosts::WaitUntilGone(int host, const std::string& program) const {
  const double deadline = MonotonicSeconds() + kPatienceSeconds;
  while (!Processes(host, program).empty()) {
    if (MonotonicSeconds() > deadline) return false;
    usleep(kPollMicroseconds);
  }
  return true;
}

}  // namespace strake::testing
