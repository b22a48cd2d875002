//! What an app leaves in the Engine when its life is over, beside the containers that the plan knows. Only for previews: of any
//! other app nothing with data in it is ever removed.

use std::collections::HashMap;

use anyhow::Result;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveVolumeOptions,
};
use landfall_core::ids::AppName;

use super::pull::KEEPER;
use super::{CALL, Engine, PROJECT, status, within};

impl Engine {
    /// Removes what carries the project's label: containers of `docker compose run`, networks, volumes; and the keeper tags of its
    /// images. Repeating it is a no-op.
    pub async fn remove_remains(&self, app: &AppName) -> Result<()> {
        let of_app = || HashMap::from([("label", vec![format!("{PROJECT}={app}")])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&of_app()).build();
        for container in within(CALL, "list containers", self.door.docker().list_containers(Some(options))).await? {
            let options = RemoveContainerOptionsBuilder::new().v(true).force(true).build();
            let removal =
                self.door.docker().remove_container(container.id.as_deref().unwrap_or_default(), Some(options));
            gone(within(CALL, "remove a container", removal).await)?;
        }
        let options = ListNetworksOptionsBuilder::new().filters(&of_app()).build();
        for network in within(CALL, "list networks", self.door.docker().list_networks(Some(options))).await? {
            let removal = self.door.docker().remove_network(network.id.as_deref().unwrap_or_default());
            gone(within(CALL, "remove a network", removal).await)?;
        }
        let options = ListVolumesOptionsBuilder::new().filters(&of_app()).build();
        let volumes = within(CALL, "list volumes", self.door.docker().list_volumes(Some(options))).await?.volumes;
        // The label alone can be set by anyone; a name of the project is the project's.
        let own = format!("{app}_");
        for volume in volumes.into_iter().flatten().filter(|volume| volume.name.starts_with(&own)) {
            let removal = self.door.docker().remove_volume(&volume.name, None::<RemoveVolumeOptions>);
            gone(within(CALL, "remove a volume", removal).await)?;
        }
        let filters = HashMap::from([("reference", vec![format!("{KEEPER}/{app}")])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        for image in within(CALL, "list images", self.door.docker().list_images(Some(options))).await? {
            let own = format!("{KEEPER}/{app}:");
            for tag in image.repo_tags.iter().filter(|tag| tag.starts_with(&own)) {
                gone(
                    within(
                        CALL,
                        "untag an image",
                        self.door.docker().remove_image(tag, None::<RemoveImageOptions>, None),
                    )
                    .await,
                )?;
            }
        }
        Ok(())
    }
}

/// What was removed by another in between is removed.
fn gone<T>(removal: Result<T>) -> Result<()> {
    match removal {
        Ok(_) => Ok(()),
        Err(error) if error.downcast_ref().and_then(status) == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}
