//! Images that are being pulled now, and how far: what the Engine says of each layer, added up. Pure but for [`pull`]; nothing is kept
//! of a pull that is over.

use std::collections::BTreeMap;

use anyhow::Result;
use landfall_core::config::Settings;
use landfall_core::ids::AppName;
use landfall_core::protocol::PullStatus;

use crate::engine::LocalImage;
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
    /// Bytes that are here and bytes in all, by layer.
    layers: BTreeMap<String, (u64, u64)>,
}

impl Progress {
    /// Takes in what is said of a layer. What is unpacked is here: those bytes are not counted again.
    pub fn note(&mut self, piece: &Piece<'_>) {
        let known = self.layers.contains_key(piece.layer);
        match (piece.said, piece.done, piece.total) {
            ("Downloading", done, total) if known || self.layers.len() < LAYERS => {
                let layer = self.layers.entry(piece.layer.to_owned()).or_default();
                layer.1 = total.unwrap_or(layer.1).max(layer.1);
                layer.0 = done.unwrap_or(layer.0).min(layer.1);
            }
            // Also of layers that were never told as downloading: they were small, or here.
            ("Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete", ..) => {
                if let Some((done, total)) = self.layers.get_mut(piece.layer) {
                    *done = *total;
                }
            }
            _ => {}
        }
    }

    fn sum(&self) -> (u64, u64) {
        self.layers.values().fold((0, 0), |(done, total), layer| (done + layer.0, total.saturating_add(layer.1)))
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

/// Pulls an image for an app, and shows how far it is meanwhile; however it ends, nothing of that is left.
pub async fn pull(shared: &Shared, settings: &Settings, app: &AppName, image: &str) -> Result<LocalImage> {
    let under_way = UnderWay { shared, key: (app.clone(), image.to_owned()) };
    let on_piece = |piece: &Piece<'_>| under_way.note(piece);
    shared.engine.pull(settings, app, image, on_piece).await
}

struct UnderWay<'a> {
    shared: &'a Shared,
    key: (AppName, String),
}

impl UnderWay<'_> {
    fn note(&self, piece: &Piece<'_>) {
        self.shared.pulls.borrow_mut().entry(self.key.clone()).or_default().note(piece);
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
}
