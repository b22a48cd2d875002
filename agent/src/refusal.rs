//! Why a release cannot run on this host: a list of problems, each naming the key, the service and the next step.
//! Never one problem at a time: a person at 3 a.m. fixes the whole list in one publication.

use std::fmt;

use landfall_core::ids::printable;

/// How long one piece of foreign text in a message may be.
const TEXT_LIMIT: usize = 600;

/// What a refusal means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Refused by host policy: the release is valid, and this host does not run it.
    Policy,
    /// The release cannot be read or contradicts itself: it must be published again.
    Invalid,
    /// Nothing is known yet (the translator timed out or is missing): the same release may pass later.
    Later,
}

impl Kind {
    /// The exit code that the CLI gives it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Policy => 3,
            Self::Invalid => 2,
            Self::Later => 4,
        }
    }
}

macro_rules! rules {
    ($($name:ident $kind:ident $next:literal,)*) => {
        /// A rule of refusal. Each has a golden case; a test proves it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are the words of the Compose Specification; the table says what each asks for")]
        pub enum Rule { $($name,)* }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What a refusal by this rule means.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            /// What to do next, where the problem itself has nothing better to say.
            pub fn next(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }

            /// Its name, as the golden cases write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

rules! {
    // What cannot be read, or is not meant for us.
    Unreadable Invalid "correct the file and publish again",
    Compose Invalid "correct the compose file and publish again; `landfall check` shows the same without a VM",
    UnknownKey Invalid "remove it; this version of Landfall does not know what it would do",
    NotSupported Invalid "remove it; it is not supported by this version",
    BadValue Invalid "correct the value and publish again",
    NoImage Invalid "name an image; CI builds, the VM only runs",
    Build Policy "build in CI and name the pushed `image:`; nothing is built on this host",
    Hook Invalid "move it into the image or into a one-shot service; hooks run inside Compose, which is not there at run time",
    Secret Invalid "name it in a vault: `external: true` with `name: NAME`, or `x-keyvault: NAME` beside `file:` or `environment:`",
    SecretInEnvironment Invalid "read it from its file below `/run/secrets`, or give it to the process by `x-landfall: { secrets_env: [NAME] }`: what stands in `environment:` or an `env_file` lies in plain text on Docker's disk",
    Cycle Invalid "remove one of these edges",
    StartFirst Invalid "remove it, or use `order: stop-first`: two containers of the service would share what is not made to be shared",
    FailureAction Invalid "use `rollback` or `pause`: to go on with a broken release helps nobody",
    Restart Invalid "use `no`, `always`, `unless-stopped` or `on-failure`",
    // What host policy forbids (design section 10).
    Privileged Policy "remove it; no line of host policy allows it in this version",
    HostNamespace Policy "remove it; no line of host policy allows a namespace of the host",
    ForeignNamespace Policy "use `service:NAME` of this project; containers of others are out of reach",
    DockerSocket Policy "remove it: who holds the Docker socket is root here; `host.allow_binds` would have to name this very path",
    UseApiSocket Policy "remove it: who holds the Docker socket is root here",
    Devices Policy "remove it; no line of host policy allows devices in this version",
    CapAdd Policy "remove it; no line of host policy allows added capabilities in this version",
    SecurityOpt Policy "keep only `no-new-privileges:true`",
    Sysctls Policy "set it on the host; no line of host policy allows it in this version",
    Runtime Policy "remove it; the host's default runtime is used",
    Provider Policy "remove it: a provider is a program that Compose would run on the host",
    Userns Policy "remove it; user namespaces are the daemon's setting",
    OomKill Policy "remove it: a container that may not be killed takes the machine with it",
    BindOutside Policy "use a named volume, or add the path to `host.allow_binds` in landfall.yaml",
    BindNotInBundle Policy "use a named volume for data; or an absolute path listed in `host.allow_binds`; a file that belongs to the release is published with it",
    BindOption Invalid "remove it; bundle files and host paths are bound privately, without relabelling",
    VolumesFrom Policy "mount the named volume in each service that needs it",
    VolumeDriver Policy "use a plain named volume, `type: tmpfs`, or `o: bind` of a path in `host.allow_binds`",
    ForeignVolume Policy "declare it as a volume of this project; volumes of others are out of reach",
    ForeignNetwork Policy "declare it as a network of this project; networks of others are out of reach",
    NetworkDriver Policy "use the driver `bridge`: others go past the guard that keeps containers from the VM's identity",
    NetworkOption Policy "remove it; no line of host policy allows it in this version",
    ReservedLabel Policy "remove it; labels `io.landfall.*` and `com.docker.compose.*` are ours and Compose's own",
    Cgroup Policy "remove it; containers run in the slice that the host gives them",
    EnvFile Policy "put the file into the project, beside the compose file; files of the host are not read",
    Extends Policy "put the file into the project; files elsewhere are not read",
    Include Policy "put the file into the project; files elsewhere are not read",
    Loopback Policy "publish on 127.0.0.1, or set `host.publish: any` in landfall.yaml",
    PreviewPort Policy "write `${LANDFALL_PORT:-8080}:80` (`LANDFALL_PORT_2` and so on for more), and give the previews `ports` in landfall.yaml",
    // Caps.
    NoCap Policy "give each a `mem_limit` as below, or set `host.default_caps` in landfall.yaml",
    CapsDoNotFit Policy "lower the caps, run fewer services here (`profiles`), or use a larger machine",
    CapTooSmall Invalid "Docker's smallest is 6 MiB",
    CpusBeyondMachine Policy "lower `cpus`, or use a larger machine",
    // Not the release's fault.
    Later Later "it is tried again",
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// By which rule.
    pub rule: Rule,
    /// The key in the compose file, such as `privileged` or `volumes.data.driver_opts`.
    pub key: String,
    /// The service, where it is one's.
    pub service: Option<String>,
    /// What is wrong, escaped for a terminal.
    pub what: String,
    /// What to do next.
    pub next: String,
}

impl Problem {
    /// A problem of the project as a whole.
    pub fn new(rule: Rule, key: impl Into<String>, what: impl AsRef<str>) -> Self {
        let key: String = key.into();
        Self {
            rule,
            key: printable(&key, TEXT_LIMIT),
            service: None,
            what: multi_line(what.as_ref()),
            next: rule.next().to_owned(),
        }
    }

    /// The same, of one service.
    #[must_use]
    pub fn of(mut self, service: &str) -> Self {
        self.service = Some(printable(service, TEXT_LIMIT));
        self
    }

    /// The same with another next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

/// Foreign text keeps its line breaks, and nothing else that a terminal would obey.
fn multi_line(text: &str) -> String {
    text.trim_end().lines().map(|line| printable(line, TEXT_LIMIT)).collect::<Vec<_>>().join("\n")
}

/// A release that does not run here. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
}

impl Refusal {
    /// What it means: one invalid thing makes the whole invalid, one `Later` makes it `Later`.
    pub fn kind(&self) -> Kind {
        self.problems.iter().map(|p| p.rule.kind()).max().unwrap_or(Kind::Invalid)
    }

    /// `Ok` where there is no problem.
    pub(crate) fn unless_none(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match self.kind() {
            Kind::Policy => "refused by host policy",
            Kind::Invalid => "invalid",
            Kind::Later => "cannot tell yet",
        };
        let count = self.problems.len();
        write!(f, "{head}: {count} problem{}", if count == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            write!(f, "\n- ")?;
            if let Some(service) = &problem.service {
                write!(f, "service `{service}`: ")?;
            }
            write!(f, "`{}`: {}", problem.key, indented(&problem.what))?;
            write!(f, "\n  next: {}", indented(&problem.next))?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_key_service_and_next_step_and_cannot_drive_a_terminal() {
        let refusal = Refusal {
            problems: vec![
                Problem::new(Rule::Privileged, "privileged", "the container would own the machine").of("web"),
                Problem::new(Rule::Cycle, "depends_on", "a\x1b[2J -> b"),
            ],
        };
        assert_eq!(
            refusal.to_string(),
            "invalid: 2 problems\n\
             - service `web`: `privileged`: the container would own the machine\n  \
               next: remove it; no line of host policy allows it in this version\n\
             - `depends_on`: a\\u{1b}[2J -> b\n  next: remove one of these edges"
        );
        assert_eq!(refusal.kind().exit_code(), 2);
    }
}
