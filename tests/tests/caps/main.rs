//! Caps for real: a container that misuses its machine, and everything else, which goes on. It runs on a machine that is made for it, as
//! root under systemd with the units installed: `make test-units`. The daemons are the shipped units at the machine's own root; the
//! stack is a release that came through the registry. What is capped is read from the kernel's own files.

mod disk;
mod machine;
mod misuse;
