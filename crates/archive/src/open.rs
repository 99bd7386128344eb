//! Opens an archive: recovers the log, then starts the threads.

use std::sync::Arc;

use crate::log::appender::Appender;
use crate::log::commit::CommitObserver;
use crate::log::published::Published;
use crate::log::shared::Shared;
use crate::log::space::Space;
use crate::log::writer::LogWriter;
use crate::maintain::{Clock, Maintenance, Parts, SegmentStep, SystemClock};
use crate::read::history::History;
use crate::recover::{Recovery, recover};
use crate::storage::dir::{Dir, lock};
use crate::storage::write_mode::WriteMode;
use crate::storage::{Context, Storage};
use crate::{Archive, Config, OpenError, log, maintain};

/// Recovers the log in `config.dir` and starts the commit thread.
///
/// Blocks while it recovers. Recovery reads the newest segment twice, and a few times more if a crash left a tail or
/// damage. It reads older segments only if positions or the newest segment are damaged. The initial routine limit and
/// status are set when this function returns.
///
/// # Errors
/// [`OpenError`]; nothing was started then.
pub fn open(
    config: Config,
    storage: impl Storage,
    observer: impl CommitObserver,
) -> Result<(Appender, Archive, Recovery), OpenError> {
    open_with_steps(config, storage, observer, Vec::new())
}

/// As [`open`]. Maintenance also runs `steps` on each sealed segment, in their order.
///
/// # Errors
/// [`OpenError`]; nothing was started then.
pub fn open_with_steps(
    config: Config,
    storage: impl Storage,
    observer: impl CommitObserver,
    steps: Vec<Box<dyn SegmentStep>>,
) -> Result<(Appender, Archive, Recovery), OpenError> {
    open_with(config, storage, observer, steps, Some(Arc::new(SystemClock)))
}

/// As [`open_with_steps`], with the given clock. Without a clock there is no maintenance.
pub(crate) fn open_with(
    config: Config,
    storage: impl Storage,
    observer: impl CommitObserver,
    steps: Vec<Box<dyn SegmentStep>>,
    clock: Option<Arc<dyn Clock>>,
) -> Result<(Appender, Archive, Recovery), OpenError> {
    config.validate()?;
    let mut dir = Dir::new(Arc::new(storage), config.dir.clone());
    dir.storage.create_dir(&dir.path).context("create", &dir.path)?;
    let lock = lock(&*dir.storage, &dir.path)?.ok_or_else(|| OpenError::Locked(dir.path.clone()))?;
    let id = dir.id()?;
    if dir.is_incomplete()? {
        return Err(OpenError::Incomplete(dir.path));
    }
    dir.write_mode = WriteMode::choose(config.direct_io, &*dir.storage, &dir.path)?;
    let recovered = recover(&dir, &config)?;
    let report = recovered.report;
    let shared = Arc::new(Shared::new(&config));
    let published = Arc::new(Published::new(report.first_offset, report.next_offset));
    let space = Space::new(dir.clone(), &config, report.log_id, recovered.current, Arc::clone(&shared));
    let log = LogWriter::new(space, recovered.table, report.next_offset, recovered.attested)?;
    let history = History {
        storage: Arc::clone(&dir.storage),
        dir: dir.path.clone(),
        log_id: report.log_id,
        first_offset: published.first_offset.subscribe(),
        watermark: published.watermark.subscribe(),
    };
    let thread = log::thread::start(log, &shared, &published, observer, Arc::clone(&lock));
    let mut archive = Archive {
        shared: Arc::clone(&shared),
        published: Arc::clone(&published),
        history,
        retention: Arc::default(),
        thread: Some(thread.map_err(OpenError::Thread)?),
        maintenance: None,
    };
    if let Some(clock) = clock {
        let control = Arc::clone(&archive.retention);
        let (retention, steps) = (config.retention, maintain::steps(steps, config.spare_bytes()));
        let log_id = report.log_id;
        let parts = Parts {
            dir,
            id,
            log_id,
            retention,
            control,
            clock,
            steps,
            shared: Arc::clone(&shared),
            published,
        };
        let started = maintain::start(Maintenance::new(parts), lock);
        archive.maintenance = Some(started.map_err(OpenError::Thread)?);
    }
    Ok((Appender::new(shared), archive, report))
}
