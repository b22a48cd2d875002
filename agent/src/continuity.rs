//! What a new deployment must leave as it is, because data or connections hang on it: pure.

use crate::preflight::Stop;
use crate::spec::Deployment;

/// Whether `next` can follow `live` without a volume or a network that would have to be made anew under its name.
pub fn judge(live: &Deployment, next: &Deployment) -> Result<(), Stop> {
    same_volumes(live, next)?;
    same_networks(live, next)
}

/// A changed definition gets a network of another name, unless the file itself says the name.
fn same_networks(live: &Deployment, next: &Deployment) -> Result<(), Stop> {
    let changed = |name: &&String| live.networks.get(*name).is_some_and(|old| old.hash != next.networks[*name].hash);
    next.networks.keys().find(changed).map_or(Ok(()), |name| {
        Err(Stop::Refused(format!(
            "network `{name}`: its definition changed, and Docker cannot change a network that is in use: remove `name:`, \
             so that the new network can have a name of its own, or publish the old definition"
        )))
    })
}

/// A changed volume definition cannot be applied to a volume that has data: refused before anything is touched.
fn same_volumes(live: &Deployment, next: &Deployment) -> Result<(), Stop> {
    for (name, volume) in &next.volumes {
        if let Some(old) = live.volumes.get(name)
            && old.hash != volume.hash
        {
            return Err(Stop::Refused(format!(
                "volume `{name}`: its definition changed, and Docker cannot change a volume that has data: give the new \
                 definition another name and move the data, or publish the old definition"
            )));
        }
    }
    Ok(())
}
