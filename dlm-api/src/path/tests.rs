use proptest::prelude::*;

use super::*;

fn named(name: &str) -> Option<String> {
    EntryPath::from_untrusted_name(name).map(|path| path.as_str().to_owned())
}

#[test]
fn hostile_names_become_harmless() {
    let table: &[(&str, Option<&str>)] = &[
        ("file.iso", Some("file.iso")),
        ("ein Ümlaut – 日本語.txt", Some("ein Ümlaut – 日本語.txt")),
        // Ways out of the folder.
        ("", None),
        (".", None),
        ("..", None),
        ("...", None),
        ("../", None),
        ("a/..", None),
        ("../../etc/passwd", Some("passwd")),
        ("..\\..\\boot.ini", Some("boot.ini")),
        ("/etc/cron.d/x", Some("x")),
        ("%2e%2e%2fetc%2fpasswd", Some("%2e%2e%2fetc%2fpasswd")),
        ("..%5cx", Some("_.%5cx")),
        ("a\0b", Some("a_b")),
        // Windows.
        ("C:x", Some("C_x")),
        ("C:\\Windows\\x.dll", Some("x.dll")),
        ("file.txt:stream", Some("file.txt_stream")),
        ("NUL", Some("_NUL")),
        ("nul.tar.gz", Some("_nul.tar.gz")),
        ("con .txt", Some("_con .txt")),
        ("LPT1", Some("_LPT1")),
        ("com³.log", Some("_com³.log")),
        ("COM10", Some("COM10")),
        ("console.txt", Some("console.txt")),
        ("x.exe. . .", Some("x.exe")),
        ("what?<is>|\"this\"*", Some("what__is___this__")),
        // Terminals and eyes.
        ("a\u{1b}[2Jb", Some("a_[2Jb")),
        ("a\r\nb", Some("a__b")),
        ("a\u{9b}b", Some("a_b")),
        ("photo\u{202e}gpj.exe", Some("photo_gpj.exe")),
        ("\u{feff}x", Some("_x")),
        ("a\u{e0041}b", Some("a_b")),
        // Shells.
        ("-rf", Some("_rf")),
        ("--output=x", Some("_-output=x")),
        (".bashrc", Some("_bashrc")),
        ("..foo", Some("_.foo")),
        ("~root", Some("_root")),
        ("  spaced\t", Some("spaced_")),
        ("   ", None),
        // Files of dlm itself.
        ("x.part", Some("x_part")),
        ("x.PART", Some("x_PART")),
        ("x.part.dlm", Some("x_part.dlm")),
        ("x.part.dlm-log", Some("x_part.dlm-log")),
        ("x.part.dlm-tmp", Some("x_part.dlm-tmp")),
        ("x.part.part", Some("x.part_part")),
        (".part", Some("_part")),
    ];
    for (name, wanted) in table {
        assert_eq!(named(name).as_deref(), *wanted, "{name:?}");
    }
}

#[test]
fn a_long_name_keeps_its_extension_and_room_for_suffixes() {
    let name = named(&format!("{}.iso", "x".repeat(300))).unwrap();
    assert_eq!(name.len(), MAX_COMPONENT);
    assert!(name.ends_with("x.iso"));
    assert!(OWN_SUFFIXES.iter().all(|suffix| name.len() + suffix.len() <= 255));

    let name = named(&"日".repeat(200)).unwrap();
    assert!(name.len() > MAX_COMPONENT - 3 && name.chars().all(|c| c == '日'));

    // Nor does what cutting leaves become the name of a device.
    for long in [format!("CONOUT${}>>", " ".repeat(300)), format!("con{}x.txt", " ".repeat(300))] {
        let name = named(&long).unwrap();
        assert!(name.starts_with("_con") || name == "_CONOUT$", "{name:?}");
        assert_eq!(named(&name).unwrap(), name);
    }

    // What looks like an extension but isn't one doesn't push the name out.
    let name = named(&format!("name.{}", "y".repeat(300))).unwrap();
    assert!(name.starts_with("name.y") && name.len() == MAX_COMPONENT);

    // A cut that ends in a suffix of dlm's own.
    let name = named(&format!("{}.part{}", "x".repeat(MAX_COMPONENT - 5), "z".repeat(40))).unwrap();
    assert!(name.ends_with("x_part"), "{name}");
}

#[test]
fn components_of_a_list_stay_components() {
    let path = EntryPath::from_untrusted(["CD1", "a/b\\c", ".hidden", "  ", "NUL", "x.iso"]).unwrap();
    assert_eq!(path.as_str(), "CD1/a_b_c/.hidden/_/_NUL/x.iso");
    assert_eq!(path.file_name(), "x.iso");

    for bad in [&["a", "..", "b"][..], &["."], &[""], &["a", ""], &[]] {
        assert_eq!(EntryPath::from_untrusted(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
    assert!(EntryPath::from_untrusted(vec!["a"; MAX_DEPTH]).is_ok());
    assert!(EntryPath::from_untrusted(vec!["a"; MAX_DEPTH + 1]).is_err());
    assert!(EntryPath::from_untrusted(vec!["a".repeat(200); 20]).is_err());
}

/// A dot-file at the top would be one of the user's own settings.
#[test]
fn only_what_is_in_a_folder_of_its_own_may_be_hidden() {
    let spaces = format!(".{}x", " ".repeat(300));
    for (components, wanted) in [
        (&[".ssh", "config"][..], "_ssh/config"),
        (&[".bashrc"], "_bashrc"),
        (&["tree", ".git", "..x"], "tree/.git/..x"),
        (&["tree", "..."], "tree/_"),
        (&["tree", ". .", ".part"], "tree/_/_part"),
        (&["tree", ".x.part", "-rf"], "tree/.x_part/_rf"),
        (&["tree", &spaces], "tree/_"),
    ] {
        assert_eq!(EntryPath::from_untrusted(components).unwrap().as_str(), wanted);
    }
}

#[test]
fn a_path_that_is_not_right_as_it_stands_is_refused() {
    for good in ["a", "a/b/c.iso", ".bashrc", "-x", "C:x", "a..b", "x.partial"] {
        assert_eq!(EntryPath::new(good).unwrap().as_str(), good);
    }
    let long = "x".repeat(MAX_COMPONENT + 1);
    let deep = "a/".repeat(MAX_DEPTH) + "a";
    for bad in
        ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\0", "a\nb", "x.part", "x.Part/y", &long, &deep]
    {
        assert_eq!(EntryPath::new(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
}

#[cfg(feature = "engine")]
#[test]
fn a_number_goes_before_the_extension() {
    let numbered = |path: &str, n| EntryPath::new(path).unwrap().numbered(n).as_str().to_owned();
    assert_eq!(numbered("a/b.iso", 1), "a/b.1.iso");
    assert_eq!(numbered("b", 12), "b.12");
    assert_eq!(numbered(".profile", 1), ".profile.1");
    let long = numbered(&format!("d/{}.iso", "x".repeat(MAX_COMPONENT - 4)), 1234);
    assert_eq!(long.len(), 2 + MAX_COMPONENT);
    assert!(long.ends_with("x.1234.iso") && EntryPath::new(&long).is_ok());
}

/// Text in which what is dangerous is likely.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,6}",
        any::<String>(),
        Just("x".repeat(240)),
        Just("日".repeat(80)),
        proptest::sample::select(vec![
            "..",
            "/",
            "\\",
            ".",
            " ",
            "-",
            "~",
            ".part",
            ".PART.dlm",
            "NUL",
            "com1",
            "\0",
            "\u{202e}",
            ":",
            "\u{a0}",
            "%2e",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_made_name_is_one_safe_component_and_stays_as_it_is(name in hostile()) {
        if let Some(path) = EntryPath::from_untrusted_name(&name) {
            let made = path.as_str();
            prop_assert_eq!(path.components().count(), 1);
            prop_assert!(fault(made).is_none(), "{:?}", made);
            prop_assert!(!made.chars().any(is_harmful), "{:?}", made);
            prop_assert!(!made.starts_with(['-', '.', '~', ' ']) && !made.ends_with(['.', ' ']), "{:?}", made);
            prop_assert!(!is_device(made), "{:?}", made);
            prop_assert_eq!(EntryPath::from_untrusted_name(made), Some(path.clone()));
            prop_assert_eq!(EntryPath::from_untrusted([made]).unwrap(), path);
        }
    }

    #[test]
    fn components_never_leave_the_folder(parts in proptest::collection::vec(hostile(), 0..6)) {
        if let Ok(path) = EntryPath::from_untrusted(&parts) {
            prop_assert_eq!(path.components().count(), parts.len());
            prop_assert!(path.components().all(|c| c != ".." && c != "." && !c.is_empty()));
            prop_assert_eq!(EntryPath::new(path.as_str()).unwrap(), path);
        }
    }
}
