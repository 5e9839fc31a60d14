//! The command line beside the settings: the text that tells how to ask.

use super::options::OPTIONS;

const HEAD: &str = "\
tidegate-director: one virtual address over all proxies, by the kernel's IPVS

Usage:
  tidegate-director --vip 192.0.2.10/24 --node 192.0.2.11 --node 192.0.2.12
  tidegate-director VERB [--socket PATH] [--json]

Verbs for the director that runs on this machine:
  status          who holds the addresses, which proxies are used, and why
  plan            what would be changed in the kernel's table now
  events          the last decisions with their causes, and then each new one
  drain NODE      no new connections to a proxy
  undrain NODE    new connections to it again
  failover        give the virtual addresses to another director
  teardown        take everything of the director's out of this machine, and stop it
  version         print the version
  help            print this text

A setting is a flag (--advert-interval 200ms), an environment variable
(TIDEGATE_DIRECTOR_ADVERT_INTERVAL), or stands in the configuration file
(advert-interval: 200ms). A flag wins over a variable, a variable over the file.
Lists are written with commas, or by giving a flag several times. A switch needs
no value. Times need a unit.

SIGHUP starts the director again with the settings as they are then, and changes
nothing if they can't be used. SIGTERM and SIGINT end it; a second one at once.

Exit codes: 0 done; 1 failed while running, or the verb was refused; 2 settings
that can't be used; 3 no director at the socket; 4 the kernel has no IPVS;
5 missing permission (CAP_NET_ADMIN, CAP_NET_RAW); 6 no interface for the
virtual addresses; 7 the API's address or socket is in use.

Settings:
";

/// The help text: usage, exit codes, and all settings.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    for (name, takes, means) in OPTIONS {
        let space = if takes.is_empty() { "" } else { " " };
        text.push_str(&format!("  --{name}{space}{takes}\n        {means}\n"));
    }
    text
}
