//! The names of the files in an archive's directory.

use super::OFFSET_MAX;

/// Name of the segment whose first frame has offset `base`.
#[must_use]
pub fn segment_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// Name of the index of the segment `base`.
pub(crate) fn index_name(base: u64) -> String {
    format!("{base:020}.idx")
}

/// Name of the file that marks a directory while `archive repair` writes it. After an interrupted repair the file
/// stays, and the directory is not an archive.
pub(crate) const REPAIR_MARK: &str = "repair.incomplete";

/// Endings of the files that belong to a segment and can be rebuilt from it: `<base><ending>`.
pub(crate) const SIDE_FILE_SUFFIXES: [&str; 3] = [".idx", UNFINISHED_INDEX, ".exported"];
/// Ending of an index that is being written.
pub(crate) const UNFINISHED_INDEX: &str = ".idx.tmp";

/// The base in the name of a segment; `None` if `name` is no such name.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    base_before(name, ".seg")
}

/// The base in a name that consists of a base (20 digits) and `ending`; `None` if `name` is not of this form.
pub(crate) fn base_before(name: &str, ending: &str) -> Option<u64> {
    digits_before(name, ending)?.parse().ok().filter(|base| *base <= OFFSET_MAX)
}

/// The 20 digits of a name that consists of them and `ending`.
fn digits_before<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let digits = name.strip_suffix(ending)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then_some(digits)
}

/// Returns whether `name` names a segment at an offset that no frame can have.
pub(crate) fn is_beyond_offsets(name: &str) -> bool {
    digits_before(name, ".seg").is_some() && base_of(name).is_none()
}
