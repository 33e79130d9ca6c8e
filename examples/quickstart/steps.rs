//! The three steps of a run. Files are read in pieces, on threads where blocking harms nobody.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use longhaul::{StepContext, StepError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::FileInput;

#[derive(Debug, Serialize, Deserialize)]
pub struct Digested {
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Compressed {
    pub bytes: u64,
    file: PathBuf,
}

/// The folder for compressed files, which the handlers share.
#[derive(Debug)]
pub struct Work(PathBuf);

impl Work {
    pub fn new(data: &Path) -> Self {
        Self(data.join("compressed"))
    }
}

pub async fn digest(_: StepContext, file: FileInput) -> Result<Digested, StepError> {
    blocking(move || digest_of(open(&file.path())?)).await
}

pub async fn compress(ctx: StepContext, file: FileInput) -> Result<Compressed, StepError> {
    // A name of its own for each attempt: a worker that was given up may still be writing.
    let folder = ctx.state::<Work>()?.0.clone();
    let target = folder.join(format!("{}-{}.gz", ctx.run_id(), ctx.fencing_token()));
    blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let mut encoder = GzEncoder::new(BufWriter::new(File::create(&target)?), Compression::fast());
        io::copy(&mut open(&file.path())?, &mut encoder)?;
        encoder.finish()?.flush()?;
        Ok(Compressed { bytes: std::fs::metadata(&target)?.len(), file: target })
    })
    .await
}

pub async fn verify(ctx: StepContext, file: FileInput) -> Result<(), StepError> {
    let digested: Digested = ctx.output("digest").await?;
    let compressed: Compressed = ctx.output("compress").await?;
    let archive = compressed.file.clone();
    let restored = blocking(move || match File::open(&archive) {
        Ok(archive) => digest_of(GzDecoder::new(BufReader::new(archive))).map(Some),
        // An earlier attempt has verified and removed it, and died before it could say so.
        Err(error) if error.kind() == io::ErrorKind::NotFound && ctx.attempt() > 1 => Ok(None),
        Err(error) => Err(error.into()),
    })
    .await?;
    if let Some(restored) = restored {
        if (restored.bytes, &restored.sha256) != (digested.bytes, &digested.sha256) {
            return Err(StepError::fail(format!("{} is not what was compressed", file.display())));
        }
        std::fs::remove_file(&compressed.file)?;
    }
    Ok(())
}

/// A file that is not there or may not be read will not be there at the next attempt either.
fn open(path: &Path) -> Result<File, StepError> {
    let shown = || path.to_string_lossy().escape_debug().collect::<String>();
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(StepError::fail(format!("{} is not a readable file", shown()))),
        Ok(_) => File::open(path).map_err(|e| StepError::fail(format!("{} cannot be read: {e}", shown()))),
        Err(e) => Err(StepError::fail(format!("{} cannot be read: {e}", shown()))),
    }
}

fn digest_of(mut source: impl Read) -> Result<Digested, StepError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
    }
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Digested { bytes, sha256 })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    tokio::task::spawn_blocking(work).await?
}
