//! Azure Key Vault and IMDS in a process of its own, as the services behave, for whatever fetches secrets. A test tells it what
//! to hold and what to break, and reads what it was asked.
//!
//! It is no part of what ships, and is checked by a client of Microsoft's (`tests/sandbox.rs`). It enforces only what the
//! services enforce: an expired secret is given, a list is not promised in any order.
//!
//! | module | what |
//! |---|---|
//! | [`imds`], [`vault`] | how the services answer |
//! | [`identity`], [`secret`] | identities with their tokens, secrets with their versions |
//! | [`fault`] | what goes wrong on demand |
//! | [`log`] | what was asked |
//! | [`world`] | all of this in one value |
//! | [`control`] | what tests tell it, over a Unix socket |
//! | [`wire`], [`door`], [`certificates`], [`server`] | the process |
//! | [`namespace`] | a network in which IMDS has its real address |
//! | [`python`] | Microsoft's client for Python |

pub mod certificates;
pub mod control;
pub mod door;
pub mod fault;
pub mod identity;
pub mod imds;
pub mod log;
pub mod namespace;
pub mod python;
pub mod secret;
pub mod server;
pub mod vault;
pub mod wire;
pub mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::certificates::Certificate;
use self::control::{Command as Word, Reply};
use self::fault::{Fault, Service};
use self::identity::Identity;
use self::log::Entry;
use self::secret::Attributes;
use self::vault::{Challenge, Grant};
use crate::process::{Lifetime, Process};
use crate::unit::Network;
use crate::wait::eventually;
use crate::{ports, programs};

const START: Duration = Duration::from_secs(20);

/// A running sandbox. The VM has the identity `system`, which may do nothing yet.
#[derive(Debug)]
pub struct Sandbox {
    directory: PathBuf,
    process: Process,
    imds: String,
    /// By name: the URL.
    vaults: BTreeMap<String, String>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Loopback,
    Namespace,
}

impl Sandbox {
    /// On free loopback ports, with these vaults, all empty; its files are in `directory`. Vaults are `https://127.0.0.1:PORT`.
    pub fn start(directory: &Path, vaults: &[&str]) -> Result<Self> {
        let mut addresses = vec![("imds".to_owned(), format!("127.0.0.1:{}", ports::free()?))];
        for vault in vaults {
            addresses.push(((*vault).to_owned(), format!("127.0.0.1:{}", ports::free()?)));
        }
        let urls = addresses[1..].iter().map(|(name, address)| (name.clone(), format!("https://{address}"))).collect();
        let command = Command::new(programs::tool("sandbox")?);
        Self::begin(directory, command, &addresses, urls, (Place::Loopback, Lifetime::Test))
    }

    /// At addresses of this process' own network, with vaults at `https://NAME.vault.azure.net`: whoever asks has those names.
    pub fn start_at(directory: &Path, imds: &str, vaults: &[(&str, String)]) -> Result<Self> {
        let mut addresses = vec![("imds".to_owned(), imds.to_owned())];
        addresses.extend(vaults.iter().map(|(name, address)| ((*name).to_owned(), address.clone())));
        let urls =
            vaults.iter().map(|(name, _)| ((*name).to_owned(), format!("https://{name}.vault.azure.net"))).collect();
        let command = Command::new(programs::tool("sandbox")?);
        Self::begin(directory, command, &addresses, urls, (Place::Loopback, Lifetime::Test))
    }

    /// In a network namespace with IMDS at 169.254.169.254:80 and vaults at `https://NAME.vault.azure.net`; whatever is to meet
    /// them runs [`Sandbox::inside`].
    pub fn start_in_namespace(directory: &Path, vaults: &[&str]) -> Result<Self> {
        Self::start_in_namespace_for(directory, vaults, Lifetime::Test)
    }

    /// As [`Self::start_in_namespace`]; it may outlive this program.
    pub fn start_in_namespace_for(directory: &Path, vaults: &[&str], lifetime: Lifetime) -> Result<Self> {
        let mut addresses = vec![("imds".to_owned(), format!("{}:80", namespace::IMDS))];
        addresses.extend(vaults.iter().enumerate().map(|(i, name)| ((*name).to_owned(), namespace::vault_address(i))));
        let urls = vaults.iter().map(|name| ((*name).to_owned(), format!("https://{name}.vault.azure.net"))).collect();
        let command = namespace::enter_new(directory, vaults, &programs::tool("sandbox")?)?;
        Self::begin(directory, command, &addresses, urls, (Place::Namespace, lifetime))
    }

    fn begin(
        directory: &Path,
        mut command: Command,
        addresses: &[(String, String)],
        vaults: BTreeMap<String, String>,
        (place, lifetime): (Place, Lifetime),
    ) -> Result<Self> {
        command.arg(directory).args(addresses.iter().map(|(name, address)| format!("{name}={address}")));
        let mut process = Process::start("sandbox", directory, command, lifetime)?;
        eventually(START, "the sandbox answers", || {
            process.check()?;
            control::tell(directory, &Word::ClearFaults)
        })?;
        let imds = format!("http://{}", addresses[0].1);
        Ok(Self { directory: directory.to_owned(), process, imds, vaults, place })
    }

    /// A command that runs where the sandbox is. It begins in `/`, and its own mounts are seen by nobody else.
    pub fn inside(&self, program: &Path) -> Result<Command> {
        ensure!(self.place == Place::Namespace, "this sandbox has no namespace; next: `Sandbox::start_in_namespace`");
        Ok(namespace::join(self.process.id(), program))
    }

    /// For a unit that is to run there.
    pub fn network(&self) -> Network {
        Network {
            namespace: format!("/proc/{}/ns/net", self.process.id()).into(),
            hosts: (self.place == Place::Namespace).then(|| namespace::hosts(&self.directory)),
        }
    }

    /// `https://…` without a slash at its end.
    pub fn vault_url(&self, vault: &str) -> Result<&str> {
        self.vaults.get(vault).map(String::as_str).with_context(|| format!("there is no vault `{vault}`"))
    }

    /// `http://…` without a path: `AZURE_POD_IDENTITY_AUTHORITY_HOST`.
    pub fn imds_url(&self) -> &str {
        &self.imds
    }

    /// The certificate to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join(server::CA)
    }

    /// Tells it something that has no function of its own here.
    pub fn tell(&self, word: &Word) -> Result<Reply> {
        control::tell(&self.directory, word)
    }

    fn done(&self, word: &Word) -> Result<()> {
        match self.tell(word)? {
            Reply::Done => Ok(()),
            other => bail!("the sandbox answered {other:?}"),
        }
    }

    /// A new version of a secret; says its id.
    pub fn set_secret(&self, vault: &str, name: &str, value: &str) -> Result<String> {
        self.set_secret_with(vault, name, value, Attributes::default())
    }

    /// A new version, with attributes.
    pub fn set_secret_with(&self, vault: &str, name: &str, value: &str, attributes: Attributes) -> Result<String> {
        let (vault, name, value) = (vault.to_owned(), name.to_owned(), value.to_owned());
        match self.tell(&Word::SetSecret { vault, name, value, attributes })? {
            Reply::Version(id) => Ok(id),
            other => bail!("the sandbox answered {other:?}"),
        }
    }

    /// Changes what is told of the newest version.
    pub fn describe(&self, vault: &str, name: &str, attributes: Attributes) -> Result<()> {
        self.done(&Word::Describe { vault: vault.to_owned(), name: name.to_owned(), version: None, attributes })
    }

    /// Deletes a secret softly.
    pub fn delete(&self, vault: &str, name: &str) -> Result<()> {
        self.done(&Word::Delete { vault: vault.to_owned(), name: name.to_owned() })
    }

    /// Takes that back.
    pub fn recover(&self, vault: &str, name: &str) -> Result<()> {
        self.done(&Word::Recover { vault: vault.to_owned(), name: name.to_owned() })
    }

    /// Gives the VM one more identity.
    pub fn assign(&self, identity: &Identity) -> Result<()> {
        self.done(&Word::Assign { identity: identity.clone() })
    }

    /// What an identity may do with all secrets of a vault.
    pub fn grant(&self, vault: &str, identity: &str, grant: Grant) -> Result<()> {
        self.done(&Word::Grant { vault: vault.to_owned(), secret: None, identity: identity.to_owned(), grant })
    }

    /// What a vault tells whom it does not know.
    pub fn set_challenge(&self, vault: &str, challenge: Challenge) -> Result<()> {
        self.done(&Word::SetChallenge { vault: vault.to_owned(), challenge })
    }

    /// What a vault shows of itself to new connections.
    pub fn set_certificate(&self, vault: &str, certificate: Certificate) -> Result<()> {
        self.done(&Word::SetCertificate { vault: vault.to_owned(), certificate })
    }

    /// The life of tokens to come.
    pub fn set_token_life(&self, seconds: i64) -> Result<()> {
        self.done(&Word::SetTokenLife { seconds })
    }

    /// No token that this identity has is taken any more; IMDS gives new ones.
    pub fn revoke_tokens(&self, identity: &str) -> Result<()> {
        self.done(&Word::RevokeTokens { identity: identity.to_owned() })
    }

    /// Its clock goes forward, or back: tokens expire, times of secrets change.
    pub fn jump_clock(&self, seconds: i64) -> Result<()> {
        self.done(&Word::JumpClock { seconds })
    }

    /// From now on this goes wrong.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        self.done(&Word::AddFault { fault })
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) -> Result<()> {
        self.done(&Word::ClearFaults)
    }

    /// Connections are refused from now on, and those that are there closed.
    pub fn refuse(&self, service: &Service) -> Result<()> {
        self.done(&Word::Refuse { service: service.clone() })
    }

    /// They are taken again.
    pub fn listen(&self, service: &Service) -> Result<()> {
        self.done(&Word::Listen { service: service.clone() })
    }

    /// All requests since the start, or since they were forgotten.
    pub fn log(&self) -> Result<Vec<Entry>> {
        match self.tell(&Word::Log)? {
            Reply::Log(entries) => Ok(entries),
            other => bail!("the sandbox answered {other:?}"),
        }
    }

    /// Forgets them.
    pub fn forget_log(&self) -> Result<()> {
        self.done(&Word::ForgetLog)
    }
}
