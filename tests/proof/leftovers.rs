//! What a failed download leaves: nothing.

use dlm_testing::{Authority, Content, Nginx};

use super::{MIB, assert_code, dlm, folder, names};

const CONTENT: Content = Content::new(8, 5 * MIB);

#[test]
fn what_is_not_there_leaves_nothing() {
    let (nginx, dir) = (Nginx::start(), folder());
    for args in [&[][..], &["-o", "name"], &["-d", "new/folder"]] {
        assert_code(&dlm(dir.path(), &[args, &[&nginx.url("missing")]].concat()).run(), 4);
        assert_eq!(names(dir.path()), [""; 0], "{args:?}");
    }
}

#[test]
fn a_refused_certificate_leaves_nothing() {
    let (authority, dir) = (Authority::new(), folder());
    for cert in [authority.cert(), authority.cert_for_another_host(), authority.expired_cert()] {
        let nginx = Nginx::builder().tls(cert).start();
        nginx.put("f.bin", &CONTENT);
        let done = dlm(dir.path(), &["--retries", "0", "-o", "f.bin", &nginx.tls_url("f.bin")]).run();
        assert_code(&done, 1);
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let (nginx, dir) = (Nginx::start(), folder());
    let url = nginx.put("f.bin", &CONTENT);
    let wrong = format!("sha256:{}", "00".repeat(32));
    for args in [&[][..], &["-o", "name"], &["-c", "1"]] {
        assert_code(&dlm(dir.path(), &[args, &["--checksum", &wrong, &url]].concat()).run(), 3);
        assert_eq!(names(dir.path()), [""; 0], "{args:?}");
    }
}

#[test]
fn a_host_that_is_not_there_leaves_nothing() {
    let dir = folder();
    for args in [&[][..], &["-o", "name"]] {
        // RFC 6761: this name never has an address.
        let done = dlm(dir.path(), &[args, &["--retries", "0", "http://nowhere.invalid/f.bin"]].concat()).run();
        assert_code(&done, 1);
        assert_eq!(names(dir.path()), [""; 0], "{args:?}");
    }
}
