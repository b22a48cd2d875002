//! What the end-to-end tests, `make try` and the benchmarks share: a VM in a directory, a real registry, the real
//! Engine, and judges that stand outside.
//!
//! Nothing here asks Landfall whether Landfall is right: containers are read from the Engine, answers are taken by an
//! own HTTP client, changes are counted from the Engine's events. `status` and `history` are compared with these.
//!
//! | module | what |
//! |---|---|
//! | [`vm`] | a root directory with a configuration, the daemons' processes, the CLI |
//! | [`life`] | a whole VM that boots ([`machine`] in a container, [`qemu`] under emulation) in a [`world`] that has all it needs |
//! | [`project`] | the sample project as CI would publish it |
//! | [`images`] | images made from one static binary, pushed by plain HTTP |
//! | [`artifact`] | releases pushed by hand, past what `landfall publish` checks |
//! | [`registry`] | a registry process of its own |
//! | [`workflow`] | the steps of an example workflow, as a CI runner would run them |
//! | [`engine`] | the Engine's API, read by us |
//! | [`own_engine`] | a dockerd that may be killed |
//! | [`events`] | every change that the Engine saw |
//! | [`prober`], [`load`] | what a client outside sees, with times; many of them |
//! | [`process`] | child processes with a log file |
//! | [`daemon`], [`mod@unit`] | our daemons as child processes, or under systemd by the units that ship |
//! | [`counting_proxy`] | the bytes that a program sends and receives |
//! | [`cgroup`] | the limits of a container, as the kernel has them |
//! | [`neighbours`] | all on a machine that must not notice what one container does |
//! | [`gate`] | a download that stands still until a test lets it go on |
//! | [`tracer`], [`points`] | a process killed at a chosen system call |
//! | [`sandbox`] | Azure Key Vault and IMDS as they behave, told what to hold and what to break |
//! | [`cloud`] | both addresses of Azure outside a namespace of a test's own |
//! | [`secrets_memory`] | the memory that secrets lie in |
//! | [`fetcher`] | a secrets-fetcher beside such a sandbox, for a test that plays the agent |
//! | [`unit_client`] | asks for a credential of a unit as systemd does |
//! | [`tour`], [`docker_restart`] | what `make try` shows |
//! | [`mod@bench`] | the numbers of `make bench` |
//! | [`suite`] | one test: its VM, its report on failure |
//! | [`wait`], [`ports`], [`programs`], [`clean`], [`chance`], [`small_disk`] | small things |

pub mod artifact;
pub mod bench;
pub mod cgroup;
pub mod chance;
pub mod clean;
pub mod cloud;
pub mod counting_proxy;
pub mod daemon;
pub mod data_disk;
pub mod docker_restart;
pub mod engine;
pub mod events;
pub mod fetcher;
pub mod gate;
pub mod images;
pub mod life;
pub mod load;
pub mod machine;
pub mod neighbours;
pub mod own_engine;
pub mod points;
pub mod ports;
pub mod prober;
pub mod process;
pub mod programs;
pub mod project;
pub mod qemu;
pub mod ran;
pub mod registry;
pub mod sandbox;
pub mod secrets_memory;
pub mod small_disk;
pub mod suite;
pub mod tour;
pub mod tracer;
pub mod unit;
pub mod unit_client;
pub mod vm;
pub mod wait;
pub mod workflow;
pub mod world;
