//! The URL of a store.

use std::fmt;
use std::str::FromStr;

use object_store::path::Path;

/// `s3://bucket/prefix`: the objects of a bucket whose names begin with the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    /// The name of the bucket.
    pub(crate) bucket: String,
    /// The prefix. It may be empty.
    pub(crate) prefix: Path,
}

/// Why a text is no [`StoreUrl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the URL of a bucket such as \"s3://bucket/prefix\"")]
pub struct StoreUrlError;

/// Longest name of a bucket in bytes.
const BUCKET_BYTES_MAX: usize = 63;

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let rest = text.strip_prefix("s3://").ok_or(StoreUrlError)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if !(3..=BUCKET_BYTES_MAX).contains(&bucket.len()) || !bucket.bytes().all(is_allowed) {
            return Err(StoreUrlError);
        }
        // `Path` leaves out a slash at the begin.
        if prefix.starts_with('/') {
            return Err(StoreUrlError);
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|_| StoreUrlError)?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.as_ref().is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://tm-2026.archive/a/b/", "s3://tm-2026.archive/a/b"),
        ] {
            let url: StoreUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), written);
        }
        for text in [
            "",
            "bucket",
            "s3://",
            "s3://a",
            "s3://Bucket",
            "http://host/bucket",
            "s3://bucket//x",
            "gs://bucket",
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(StoreUrlError), "{text}");
        }
    }
}
