//! Resolve and push, over oci-client, without a Docker daemon. One client per registry. Every request has a deadline;
//! every error says which request, what the registry answered, and what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use landfall_core::config::{Channel, is_loopback};
use landfall_core::ids::{Digest, printable};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::time::timeout;

use crate::credentials::{self, Credential, DockerConfig, Found};
use crate::failure::{Exit, Failed, chain};
use crate::image::{Image, Version};
use crate::manifest::MANIFEST_TYPE;

/// For a connection to stand.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// For one request with all that it needs (token, upload session, at most 1 MiB of content).
const REQUEST_DEADLINE: Duration = Duration::from_mins(2);
/// How much of a registry's own words is shown.
const ANSWER: usize = 400;

/// The registries of one publication.
pub struct Registries {
    /// The only registry that gets the environment's credential, and the `--plain-http`.
    own: String,
    own_credential: Option<Credential>,
    own_plain_http: bool,
    docker: DockerConfig,
    clients: BTreeMap<String, (Client, RegistryAuth)>,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Registries {
    /// `own` is the channel's registry.
    pub fn new(own: &str, own_credential: Option<Credential>, own_plain_http: bool, docker: DockerConfig) -> Self {
        // Fails only where a provider is installed already, which then is this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { own: own.to_owned(), own_credential, own_plain_http, docker, clients: BTreeMap::new() }
    }

    /// The digest that an image has now. A digest is taken as it is.
    pub async fn resolve(&mut self, service: &str, image: &Image) -> Result<Digest, Failed> {
        let tag = match &image.version {
            Version::Digest(digest) => return Ok(digest.clone()),
            Version::Tag(tag) => tag.clone(),
        };
        let (client, auth) = self.client(&image.registry).await?;
        let reference = Reference::with_tag(image.registry.clone(), image.repository.clone(), tag);
        let request = format!("HEAD manifest `{image}` (the image of service `{service}`)");
        let answer = within(&request, async {
            client.auth(&reference, auth, RegistryOperation::Pull).await?;
            client.fetch_manifest_digest(&reference, auth).await
        });
        let digest = answer.await.map_err(|trouble| {
            let not_there = format!("push the image first, or name another: `--image {service}=…`");
            trouble.explain(&image.registry, &image.repository, "pull", &not_there)
        })?;
        digest.parse().map_err(|error| Failed::new(Exit::Failed, format!("{request}: the registry answered {error}")))
    }

    /// The manifest that a channel points at.
    pub async fn manifest(&mut self, channel: &Channel) -> Result<Vec<u8>, Failed> {
        let (client, auth) = self.client(&channel.registry).await?;
        let reference = reference(channel);
        let request = format!("GET manifest `{channel}`");
        let answer = within(&request, async {
            client.auth(&reference, auth, RegistryOperation::Pull).await?;
            client.pull_manifest_raw(&reference, auth, &[MANIFEST_TYPE]).await
        });
        let explain = |trouble: Trouble| {
            trouble.explain(
                &channel.registry,
                &channel.repository,
                "pull",
                "publish a release there first, or name another",
            )
        };
        answer.await.map(|(bytes, _)| bytes.to_vec()).map_err(explain)
    }

    /// A blob of a channel's repository, of at most `size` bytes. The caller verifies it.
    pub async fn blob(&mut self, channel: &Channel, digest: &Digest, size: u64) -> Result<Vec<u8>, Failed> {
        let (client, _) = self.client(&channel.registry).await?;
        let reference = reference(channel);
        let request = format!("GET blob `{digest}` of `{channel}`");
        let answer = within(&request, async {
            let stream = client.pull_blob_stream(&reference, digest.as_str()).await?.stream;
            let mut stream = std::pin::pin!(stream);
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk?);
                if bytes.len() as u64 > size {
                    break;
                }
            }
            Ok(bytes)
        });
        let again = "publish it again: its registry has lost a part of it";
        answer.await.map_err(|trouble| trouble.explain(&channel.registry, &channel.repository, "pull", again))
    }

    /// Opens the channel's repository for pushing.
    pub async fn open(&mut self, repository: &str) -> Result<Repository<'_>, Failed> {
        let registry = self.own.clone();
        let (client, auth) = self.client(&registry).await?;
        let at = Repository { client, registry, name: repository.to_owned() };
        let reference = at.at("latest");
        within(&format!("log in to `{}` to push `{repository}`", at.registry), async {
            client.auth(&reference, auth, RegistryOperation::Push).await
        })
        .await
        .map_err(|trouble| at.explain(trouble))?;
        Ok(at)
    }

    async fn client(&mut self, registry: &str) -> Result<&(Client, RegistryAuth), Failed> {
        if !self.clients.contains_key(registry) {
            let made = self.connect(registry).await?;
            self.clients.insert(registry.to_owned(), made);
        }
        Ok(&self.clients[registry])
    }

    async fn connect(&self, registry: &str) -> Result<(Client, RegistryAuth), Failed> {
        let own = registry == self.own;
        let credential = match (&self.own_credential, own) {
            (Some(credential), true) => Some(credential.clone()),
            _ => match self.docker.find(registry)? {
                Found::Nothing => None,
                Found::Credential(credential) => Some(credential),
                Found::Helper(name) => credentials::ask_helper(&name, registry).await?,
            },
        };
        let auth = credential.map_or(RegistryAuth::Anonymous, |c| RegistryAuth::Basic(c.username, c.password));
        let loopback = is_loopback(registry);
        let plain_http = loopback || (own && self.own_plain_http);
        let mut config = ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            // One PUT for each blob: all are small.
            use_monolithic_push: true,
            connect_timeout: Some(CONNECT_DEADLINE),
            read_timeout: Some(REQUEST_DEADLINE),
            user_agent: concat!("landfall/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        if loopback {
            // A proxy of the environment cannot reach our loopback. To say "none" oci-client must be given one, for no host.
            config.http_proxy = Some("http://127.0.0.1".to_owned());
            config.no_proxy = Some("localhost,127.0.0.0/8,::1/128".to_owned());
        }
        let client = Client::try_from(config).map_err(|error| {
            Failed::new(Exit::Failed, format!("cannot set up TLS for `{registry}`: {}", chain(&error)))
        })?;
        Ok((client, auth))
    }
}

fn reference(channel: &Channel) -> Reference {
    Reference::with_tag(channel.registry.clone(), channel.repository.clone(), channel.tag.clone())
}

/// A repository that can be pushed to.
pub struct Repository<'a> {
    client: &'a Client,
    registry: String,
    name: String,
}

impl std::fmt::Debug for Repository<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({}/{})", self.registry, self.name)
    }
}

impl Repository<'_> {
    /// Uploads a blob that the registry does not have.
    pub async fn push_blob(&self, bytes: &[u8]) -> Result<(), Failed> {
        let digest = Digest::of(bytes);
        let at = self.at("latest");
        let request = format!("PUT blob `{digest}` to `{}/{}`", self.registry, self.name);
        let pushed = within(&request, async {
            // Whatever else it answers, the upload's own answer says more.
            if matches!(self.client.blob_exists(&at, digest.as_str()).await, Ok(true)) {
                return Ok(());
            }
            if bytes.is_empty() {
                // The plain call takes an empty file for a mistake.
                return self.client.push_blob_stream(&at, stream::empty(), digest.as_str(), Some(0)).await.map(drop);
            }
            self.client.push_blob(&at, bytes.to_vec(), digest.as_str()).await.map(drop)
        });
        pushed.await.map_err(|trouble| self.explain(trouble))
    }

    /// Puts a manifest under a digest or a tag.
    pub async fn push_manifest(&self, version: &str, bytes: &[u8]) -> Result<(), Failed> {
        let content_type =
            MANIFEST_TYPE.parse().unwrap_or_else(|_| unreachable!("the constant is a valid header value"));
        let request = format!("PUT manifest `{version}` to `{}/{}`", self.registry, self.name);
        let pushed = within(&request, async {
            self.client.push_manifest_raw(&self.at(version), bytes.to_vec(), content_type).await
        });
        pushed.await.map(drop).map_err(|trouble| self.explain(trouble))
    }

    /// A digest goes in as a tag, too: for a registry that sends no Location, oci-client cuts the tag off the address and
    /// would panic where there is none.
    fn at(&self, version: &str) -> Reference {
        Reference::with_tag(self.registry.clone(), self.name.clone(), version.to_owned())
    }

    fn explain(&self, trouble: Trouble) -> Failed {
        trouble.explain(&self.registry, &self.name, "push", "see whether the repository exists and may be written")
    }
}

/// A request that went wrong.
struct Trouble {
    request: String,
    error: Option<OciDistributionError>,
}

async fn within<T>(request: &str, work: impl Future<Output = Result<T, OciDistributionError>>) -> Result<T, Trouble> {
    match timeout(REQUEST_DEADLINE, work).await {
        Ok(answer) => answer.map_err(|error| Trouble { request: request.to_owned(), error: Some(error) }),
        Err(_) => Err(Trouble { request: request.to_owned(), error: None }),
    }
}

impl Trouble {
    /// As an error for people. `right` is what the account needs; `not_there` what to do where there is no such thing.
    fn explain(self, registry: &str, repository: &str, right: &str, not_there: &str) -> Failed {
        let login = format!(
            "log in: `docker login {registry}`, or set {} and {}; the account needs the right to {right} `{repository}`",
            credentials::VARIABLES.0,
            credentials::VARIABLES.1
        );
        let reach = format!(
            "see whether `{registry}` is the right name and answers; a registry without TLS needs `--plain-http`"
        );
        let by_status = |code: u16, said: &str| {
            let answer = format!("the registry answered {code} {}", said.trim());
            match code {
                401 | 403 => (Exit::Failed, answer, login.clone()),
                404 => (Exit::Failed, answer, not_there.to_owned()),
                429 | 500.. => (Exit::Unreachable, answer, "try again later".to_owned()),
                _ => (Exit::Failed, answer, reach.clone()),
            }
        };
        let (exit, answer, next) = match self.error {
            None => (Exit::Unreachable, format!("no answer within {} s", REQUEST_DEADLINE.as_secs()), reach),
            Some(OciDistributionError::RequestError(error)) => match error.status() {
                Some(status) => by_status(status.as_u16(), status.canonical_reason().unwrap_or_default()),
                None => (Exit::Unreachable, chain(&error), reach),
            },
            Some(OciDistributionError::UnauthorizedError { .. }) => by_status(401, "Unauthorized"),
            Some(OciDistributionError::AuthenticationFailure(said)) => {
                (Exit::Failed, format!("the registry refused to log us in: {said}"), login)
            }
            Some(OciDistributionError::RegistryError { envelope, .. }) => {
                let said: Vec<String> =
                    envelope.errors.iter().map(|e| format!("{} {}", word(&e.code), e.message)).collect();
                let code = match envelope.errors.first().map(|e| &e.code) {
                    Some(OciErrorCode::Denied | OciErrorCode::Unauthorized) => 403,
                    Some(OciErrorCode::Toomanyrequests) => 429,
                    _ => 404,
                };
                let (exit, _, next) = by_status(code, "");
                (exit, format!("the registry answered {}", said.join("; ")), next)
            }
            Some(OciDistributionError::ServerError { code, message, .. }) => by_status(code, &message),
            Some(error) => (Exit::Failed, chain(&error), reach),
        };
        Failed::new(exit, format!("{}: {}", self.request, printable(&answer, ANSWER))).next(next)
    }
}

/// An error code as the specification writes it.
fn word(code: &OciErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
