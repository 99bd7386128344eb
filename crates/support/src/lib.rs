//! Code that the commands share and that is not about telemetry: log lines, error lines, times, numbers, files.
//!
//! This crate does not depend on the protocol, the archive or the daemon. From `frame` it uses only the time.
//!
//! | file | purpose |
//! |---|---|
//! | `logging.rs` | [`logging`]: log lines reach stderr without a part that waits for its reader |
//! | `logging/queue.rs` | the bounded queue of lines, with a limit for each class |
//! | `logging/writer.rs` | the thread that writes the queue |
//! | `logging/peers.rs` | `by_peer!`: limits the rate of lines that a peer can cause |
//! | `causes.rs` | [`causes`]: an error and its causes in one line |
//! | `moment.rs` | [`moment`]: times as people write them |
//! | `number.rs` | [`number`]: numbers as people write them |
//! | `plain_file.rs` | [`plain_file`]: opens the files that a configuration names, and refuses pipes and devices |
//! | `private.rs` | [`private`]: the modes of what the daemon keeps on disk |
//! | `secret.rs` | [`secret`]: credentials that are never printed |
//! | `stdio.rs` | [`stdio`]: what commands write to stdout and stderr |

pub mod causes;
pub mod logging;
pub mod moment;
pub mod number;
pub mod plain_file;
pub mod private;
pub mod secret;
pub mod stdio;
