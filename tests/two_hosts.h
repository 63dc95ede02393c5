// Two hosts on this machine, for tests of runs on several: "node1" and "node2", each with a network
// and a host name of its own (Linux's namespaces), and one link between them.
#ifndef STRAKE_TESTS_TWO_HOSTS_H_
#define STRAKE_TESTS_TWO_HOSTS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "core/base/file_descriptor.h"
#include "core/testing/temp_directory.h"

namespace strake::testing {

// What main() begins with: starts this program anew in namespaces of its own, where it may make
// hosts. They end with it, and with them every process in them, also if it crashes. Returns there,
// and where the system does not let it.
void EnterOwnNamespaces(char** argv);

// Why there can be no hosts: it lacks iproute2, say, or may not make namespaces. Empty if there
// can.
const std::string& WhyNoHosts();

class TwoHosts {
 public:
  TwoHosts();
  // Kills what still runs on them.
  ~TwoHosts();
  TwoHosts(const TwoHosts&) = delete;
  TwoHosts& operator=(const TwoHosts&) = delete;

  // The words before a command that start it on a host, 1 or 2.
  std::vector<std::string> Enter(int host) const;
  // mpirun on node1, with two processes on each host; MpirunCommand() must not be empty.
  std::vector<std::string> Mpirun() const;

  // From then on packets are lost, and no end of a connection is told.
  void CutLink();
  void KillAll(int host);
  // Waits until the host runs no `program` ("tools/train"), but not for ever. Returns whether.
  bool WaitUntilGone(int host, const std::string& program) const;

 private:
  struct Host {
    FileDescriptor network, name;
  };
  static Host MakeHost(const std::string& name);
  std::vector<pid_t> Processes(int host, const std::string& program = "") const;

  const Host hosts_[2];
  const TempDirectory files_;
};

}  // namespace strake::testing

#endif  // STRAKE_TESTS_TWO_HOSTS_H_
