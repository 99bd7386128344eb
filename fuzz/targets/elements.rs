//! Catalogs of orbital elements, which operators upload.
#![no_main]

use bytes::Bytes;
use catalog::Catalog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(catalog) = Catalog::new(1, Bytes::copy_from_slice(bytes)) {
        let _ = catalog.sub_points(1_790_000_000_000_000_000);
    }
});
