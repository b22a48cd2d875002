//! Images that are being pulled now, and how far: what the Engine says of each layer, added up. Pure but for [`pull`], which pulls nothing
//! that there is no room for; of a pull that is over nothing is kept but the size of what there was no room for.

use std::collections::BTreeMap;

use anyhow::Result;
use landfall_core::config::Settings;
use landfall_core::ids::AppName;
use landfall_core::protocol::PullStatus;

use crate::disks;
use crate::engine::LocalImage;
use crate::room::{self, Need, NoRoom};
use crate::shared::Shared;

/// No image has as many layers: what names more is not followed.
const LAYERS: usize = 512;

/// What the Engine says of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Which.
    pub layer: &'a str,
    /// In the Engine's words.
    pub said: &'a str,
    /// Bytes that are here.
    pub done: Option<u64>,
    /// Of how many.
    pub total: Option<u64>,
}

/// How far one pull is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    layers: BTreeMap<String, Layer>,
}

/// Bytes of one layer, as they are downloaded.
#[derive(Debug, Clone, Copy, Default)]
struct Layer {
    /// Here.
    done: u64,
    /// In all.
    total: u64,
    /// Unpacked of them.
    unpacked: u64,
}

impl Progress {
    /// Takes in what is said of a layer. What is unpacked is here: those bytes are not counted again.
    pub fn note(&mut self, piece: &Piece<'_>) {
        let known = self.layers.contains_key(piece.layer);
        match (piece.said, piece.done, piece.total) {
            ("Downloading", done, total) if known || self.layers.len() < LAYERS => {
                let layer = self.layers.entry(piece.layer.to_owned()).or_default();
                layer.total = total.unwrap_or(layer.total).max(layer.total);
                layer.done = done.unwrap_or(layer.done).min(layer.total);
            }
            // Also of layers that were never told as downloading: they were small, or here.
            ("Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete", ..) => {
                if let Some(layer) = self.layers.get_mut(piece.layer) {
                    layer.done = layer.total;
                    layer.unpacked = match (piece.said, piece.done, piece.total) {
                        ("Extracting", Some(done), Some(_)) => done.min(layer.total),
                        // In seconds: containerd does not say how far it is.
                        ("Extracting" | "Pull complete", ..) => layer.total,
                        _ => layer.unpacked,
                    };
                }
            }
            _ => {}
        }
    }

    fn sum(&self) -> (u64, u64) {
        let layers = self.layers.values();
        layers.fold((0, 0), |(done, total), layer| (done + layer.done, total.saturating_add(layer.total)))
    }

    fn need(&self) -> Need {
        self.layers.values().fold(Need::default(), |need, layer| {
            need.and(Need { download: layer.total - layer.done, unpack: layer.total - layer.unpacked })
        })
    }
}

/// All that are under way, by app and image.
pub type Pulls = BTreeMap<(AppName, String), Progress>;

/// Those of an app.
pub fn of(pulls: &Pulls, app: &AppName) -> Vec<PullStatus> {
    let told = pulls.iter().filter(|((of, _), _)| of == app).map(|((_, image), progress)| {
        let (done, total) = progress.sum();
        PullStatus { image: image.clone(), done, total }
    });
    told.collect()
}

/// How large images were, as far as they were seen, that there was no room for.
pub type TooLarge = BTreeMap<(AppName, String), u64>;

/// What is still to come of all pulls under way, and of what the app's release found no room for before.
fn outstanding(pulls: &Pulls, too_large: &TooLarge, app: &AppName) -> Need {
    // What was seen before counts until as much is seen again.
    let seen_again = |key, bytes| pulls.get(key).is_some_and(|progress: &Progress| progress.sum().1 >= bytes);
    let before = too_large.iter().filter(|(key, bytes)| key.0 == *app && !seen_again(*key, **bytes));
    let before: BTreeMap<_, _> = before.collect();
    let now = pulls.iter().filter(|(key, _)| !before.contains_key(key)).map(|(_, progress)| progress.need());
    let before = before.values().map(|bytes| Need { download: **bytes, unpack: **bytes });
    now.chain(before).fold(Need::default(), Need::and)
}

/// Finds an image, or pulls it for an app where there is room, and shows how far it is meanwhile; however it ends, nothing of that is left.
pub async fn pull(shared: &Shared, settings: &Settings, app: &AppName, image: &str) -> Result<LocalImage> {
    let local = if let Some(local) = shared.engine.local_image(image).await? {
        local
    } else {
        let under_way = UnderWay { shared, settings, key: (app.clone(), image.to_owned()) };
        under_way.begin()?;
        shared.engine.download(settings, image, |piece| under_way.note(piece)).await?
    };
    shared.too_large.borrow_mut().remove(&(app.clone(), image.to_owned()));
    shared.engine.keep(app, image, &local).await?;
    Ok(local)
}

struct UnderWay<'a> {
    shared: &'a Shared,
    settings: &'a Settings,
    key: (AppName, String),
}

impl UnderWay<'_> {
    fn begin(&self) -> Result<(), NoRoom> {
        for unseen in disks::look(self.shared).unseen {
            tracing::warn!(LANDFALL_APP = %self.key.0, "cannot tell whether there is room for images, pulling all the same: {unseen}");
        }
        self.admit()
    }

    /// An error lets go of the pull.
    fn note(&self, piece: &Piece<'_>) -> Result<(), NoRoom> {
        self.shared.pulls.borrow_mut().entry(self.key.clone()).or_default().note(piece);
        self.admit().inspect_err(|_| {
            let seen = self.shared.pulls.borrow().get(&self.key).map_or(0, |progress| progress.sum().1);
            self.shared.too_large.borrow_mut().insert(self.key.clone(), seen);
        })
    }

    fn admit(&self) -> Result<(), NoRoom> {
        let need = outstanding(&self.shared.pulls.borrow(), &self.shared.too_large.borrow(), &self.key.0);
        room::admit(&disks::look(self.shared).found, self.settings.host.reserve_disk, need)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.pulls.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_add_up_and_no_byte_counts_twice() {
        let mut progress = Progress::default();
        for (layer, said, done, total, sum) in [
            ("a", "Pulling fs layer", None, None, (0, 0)),
            ("a", "Downloading", Some(10), Some(100), (10, 100)),
            ("b", "Downloading", Some(5), Some(50), (15, 150)),
            ("a", "Downloading", Some(60), Some(100), (65, 150)),
            // More than there is, which no layer has.
            ("a", "Downloading", Some(600), Some(100), (105, 150)),
            ("a", "Verifying Checksum", None, None, (105, 150)),
            ("b", "Download complete", None, None, (150, 150)),
            ("a", "Extracting", Some(7), Some(100), (150, 150)),
            ("c", "Already exists", None, None, (150, 150)),
            ("c", "Pull complete", None, None, (150, 150)),
            ("d", "Downloading", Some(1), None, (150, 150)),
        ] {
            progress.note(&Piece { layer, said, done, total });
            assert_eq!(progress.sum(), sum, "{layer} {said}");
        }
    }

    #[test]
    fn what_is_still_to_come_shrinks_as_it_is_downloaded_and_unpacked() {
        let mut progress = Progress::default();
        for (said, done, total, download, unpack) in [
            ("Downloading", Some(10), Some(100), 90, 100),
            ("Download complete", None, None, 0, 100),
            ("Extracting", Some(40), Some(100), 0, 60),
            ("Pull complete", None, None, 0, 0),
        ] {
            progress.note(&Piece { layer: "a", said, done, total });
            assert_eq!(progress.need(), Need { download, unpack }, "{said}");
        }
        progress.note(&Piece { layer: "b", said: "Downloading", done: Some(0), total: Some(7) });
        progress.note(&Piece { layer: "b", said: "Extracting", done: Some(3), total: None });
        assert_eq!(progress.need(), Need::default(), "in seconds");
    }

    #[test]
    fn what_found_no_room_counts_until_it_is_seen_again_and_only_for_its_own_app() {
        let (web, db): (AppName, AppName) = ("web".parse().unwrap(), "db".parse().unwrap());
        let key = |app: &AppName, image: &str| (app.clone(), image.to_owned());
        let downloading = |done, total| {
            let mut progress = Progress::default();
            progress.note(&Piece { layer: "a", said: "Downloading", done: Some(done), total: Some(total) });
            progress
        };
        let too_large: TooLarge = [(key(&web, "a"), 100), (key(&web, "b"), 10)].into();
        let need = |download, unpack| Need { download, unpack };
        for (pulls, app, wanted) in [
            (Pulls::new(), &web, need(110, 110)),
            (Pulls::new(), &db, need(0, 0)),
            ([(key(&web, "a"), downloading(5, 30))].into(), &web, need(110, 110)),
            ([(key(&web, "a"), downloading(50, 120))].into(), &web, need(80, 130)),
            ([(key(&web, "a"), downloading(50, 120))].into(), &db, need(70, 120)),
            ([(key(&db, "c"), downloading(1, 4))].into(), &web, need(113, 114)),
        ] {
            assert_eq!(outstanding(&pulls, &too_large, app), wanted, "{app} {pulls:?}");
        }
    }
}
