//! What a container reaches: an image that is landfall-exec and nothing else, a container of it for each address, and both are removed
//! whatever becomes of it. The container has no right, no volume and no label of ours.

use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Engine, within};

/// Where it lies in the image.
const PROGRAM: &str = "landfall-exec";
const REPOSITORY: &str = "landfall.local/verify";
/// How long landfall-exec tries.
const PATIENCE: &str = "3s";
const MEMORY: i64 = 32 << 20;
const PIDS: i64 = 16;

/// What came of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// `169.254.169.254:80` and the like.
    pub address: String,
    /// What the container got.
    pub answer: Answer,
}

/// What a container got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A connection.
    Reached,
    /// None: in landfall-exec's words.
    Refused(String),
    /// It did not come so far: why.
    NotTried(String),
}

impl Engine {
    /// Tries to connect to each address from a container on the default bridge. The error is why no container could be made.
    pub async fn probe(&self, program: &Path, addresses: &[&str]) -> Result<Vec<Probed>, String> {
        let tag = std::process::id().to_string();
        let image = format!("{REPOSITORY}:{tag}");
        self.import(program, &tag).await?;
        let mut found = Vec::new();
        for address in addresses {
            let answer = self.try_one(&image, address).await.unwrap_or_else(Answer::NotTried);
            found.push(Probed { address: (*address).to_owned(), answer });
        }
        let _ =
            within(self.docker.remove_image(&image, None::<bollard::query_parameters::RemoveImageOptions>, None)).await;
        Ok(found)
    }

    async fn import(&self, program: &Path, tag: &str) -> Result<(), String> {
        let archive = archive(program).map_err(|error| format!("cannot read `{}`: {error}", program.display()))?;
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(REPOSITORY).tag(tag).build();
        let body = bollard::body_full(Bytes::from(archive));
        let mut progress = std::pin::pin!(self.docker.create_image(Some(options), Some(body), None));
        let read = async {
            while let Some(line) = progress.next().await {
                line?;
            }
            Ok(())
        };
        within(read).await
    }

    async fn try_one(&self, image: &str, address: &str) -> Result<Answer, String> {
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec![format!("/{PROGRAM}")]),
            cmd: Some(["probe", &format!("tcp://{address}"), "--timeout", PATIENCE].map(str::to_owned).to_vec()),
            host_config: Some(HostConfig {
                network_mode: Some("bridge".to_owned()),
                memory: Some(MEMORY),
                pids_limit: Some(PIDS),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                // The default driver may be one that cannot be read.
                log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("landfall-verify-{}", std::process::id());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let id = within(self.docker.create_container(Some(options), body)).await?.id;
        let answer = self.outcome(&id).await;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let _ = within(self.docker.remove_container(&id, Some(options))).await;
        answer
    }

    async fn outcome(&self, id: &str) -> Result<Answer, String> {
        within(self.docker.start_container(id, None)).await?;
        let ended = async {
            // Another exit code than 0 is an error here; the look below has it.
            let _ = std::pin::pin!(self.docker.wait_container(id, None)).next().await;
            self.docker.inspect_container(id, None).await
        };
        let state = within(ended).await?.state.unwrap_or_default();
        let said = self.said(id).await;
        Ok(match state.exit_code {
            Some(0) => Answer::Reached,
            Some(1) => Answer::Refused(said),
            code => Answer::NotTried(format!("landfall-exec ended with {}: {said}", code.unwrap_or(-1))),
        })
    }

    async fn said(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut text = Vec::new();
        let read = async {
            let mut stream = std::pin::pin!(self.docker.logs(id, Some(options)));
            while let Some(chunk) = stream.next().await {
                text.extend_from_slice(&chunk?.into_bytes());
            }
            Ok(())
        };
        match within(read).await {
            Ok(()) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(why) => why,
        }
    }
}

fn archive(program: &Path) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(program, PROGRAM)?;
    archive.into_inner()
}
