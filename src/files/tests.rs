use super::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    write_atomic(&path, b"old").unwrap();
    let failed = write_atomic_with(&path, |file| {
        file.write_all(b"half").unwrap();
        Err(Error::Interrupted)
    });
    assert!(matches!(failed, Err(Error::Interrupted)));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["a.json"]);
}

#[cfg(unix)]
#[test]
fn a_file_gets_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write_atomic(&ours, b"").unwrap();
    fs::write(&plain, b"").unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

/// `printf abc | sha256sum`
#[test]
fn sha256_is_the_published_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_file(&path).unwrap(), expected);
    assert_eq!(sha256_bytes(b"abc"), expected);
}

#[test]
fn a_folder_appears_only_when_finished() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("deep/result");
    let staging = Staging::create(&target, false).unwrap();
    fs::write(staging.path().join("x"), "1").unwrap();
    assert!(!target.exists());
    assert_eq!(staging.finish().unwrap(), target);
    assert_eq!(fs::read(target.join("x")).unwrap(), b"1");
    assert_eq!(names(target.parent().unwrap()), ["result"]);
}

#[test]
fn a_dropped_folder_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::create(folder.path().join("r"), false).unwrap();
    fs::write(staging.path().join("x"), "1").unwrap();
    drop(staging);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn an_older_result_is_replaced_only_with_force_and_only_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("r");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("config.json"), "old").unwrap();
    fs::write(target.join("synth.json"), "{}").unwrap();
    let refusal = Staging::create(&target, false).unwrap_err().to_string();
    assert!(refusal.contains("--force") && !refusal.contains('\n'), "{refusal}");
    let staging = Staging::create(&target, true).unwrap();
    fs::write(staging.path().join("y"), "new").unwrap();
    assert_eq!(fs::read(target.join("config.json")).unwrap(), b"old");
    staging.finish().unwrap();
    assert_eq!(names(&target), ["y"]);
    assert_eq!(names(folder.path()), ["r"]);
}

#[test]
fn a_name_taken_meanwhile_keeps_both_results() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("r");
    let staging = Staging::create(&target, false).unwrap();
    fs::write(staging.path().join("y"), "ours").unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(target.join("config.json"), "theirs").unwrap();
    fs::write(target.join("synth.json"), "{}").unwrap();
    let message = staging.finish().unwrap_err().to_string();
    let apart = names(folder.path()).into_iter().find(|name| name.starts_with("r.finished-")).unwrap();
    let apart = folder.path().join(apart);
    assert!(message.contains(&*apart.to_string_lossy()), "{message}");
    // Nor does whoever comes next take it for something half-made.
    drop(Staging::create(&target, true).unwrap());
    assert!(apart.join("y").is_file() && target.join("config.json").is_file());
    assert_eq!(names(folder.path()).len(), 2);
}

/// Nobody means a folder of results, or of photographs, when a result is to be replaced.
#[test]
fn force_replaces_results_alone() {
    let folder = tempfile::tempdir().unwrap();
    let with = |kind: &str, files: &[&str]| {
        let target = folder.path().join(format!("{kind} {}", files.join("-").replace('/', "_")));
        for file in files {
            fs::create_dir_all(target.join(file).parent().unwrap()).unwrap();
            let text = if file.ends_with("synth.json") { format!(r#"{{"kind": "{kind}"}}"#) } else { String::new() };
            fs::write(target.join(file), text).unwrap();
        }
        Staging::create(&target, true).map(drop).map_err(|error| error.to_string())
    };
    for (kind, files) in [
        ("set", &["synth.json", "data/train-00000-of-00001.parquet", "preview.png", "adversary.safetensors"][..]),
        (
            "student",
            &["synth.json", "config.json", "model.safetensors", "snapshots/index.jsonl", "snapshots/0001.safetensors"],
        ),
        ("student", &["student/synth.json", "metrics.jsonl", "snapshots/0001.safetensors"]),
        ("set", &["set/synth.json", "student/synth.json"]),
        // Exported pictures have folders of any name.
        ("pictures", &["synth.json", "cat/1.png", "01 a b/0002.png"]),
        ("overlays", &["synth.json", "legend.txt", "07.png"]),
    ] {
        assert_eq!(with(kind, files), Ok(()), "{files:?}");
    }
    for (kind, files, named) in [
        ("set", &["mine/synth.json"][..], "mine"),
        ("set", &["set/synth.json", "student/synth.json", "notes.txt"], "notes.txt"),
        ("set", &["set/synth.json", "student/thesis.tex"], "student/thesis.tex"),
        ("", &["cat/1.png", "dog/2.png"], "cat"),
        ("", &["legend.txt", "1.png"], "1.png"),
        ("", &["config.json", "x.pth"], "config.json"),
        ("student", &["synth.json", "config.json", "thesis.tex"], "thesis.tex"),
        ("student", &["student/synth.json", "student/config.json", "student/thesis.tex"], "student/thesis.tex"),
        ("student", &["synth.json", "config.json", "snapshots/mine.safetensors"], "snapshots/mine.safetensors"),
        ("student", &["synth.json", "thesis/chapter.tex"], "thesis"),
        ("set", &["synth.json", "data/train-00000-of-00001.parquet", "data/notes.txt"], "data/notes.txt"),
        ("set", &["synth.json", "data/train-0.parquet", "cat/1.png"], "cat"),
        ("pictures", &["synth.json", "cat/1.png", "holiday.png"], "holiday.png"),
        ("pictures", &["synth.json", "cat/1.png", "cat/notes.txt"], "cat/notes.txt"),
        ("pictures", &["synth.json", "cat/1.png", "thesis/figures/1.png"], "thesis/figures"),
    ] {
        let refusal = with(kind, files).unwrap_err();
        assert!(
            refusal.contains(&format!("it holds {named}, which this program did not make")),
            "{files:?}: {refusal}"
        );
    }
    let file = folder.path().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    assert!(Staging::create(&file, true).err().unwrap().to_string().contains("it is a file"));
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn force_never_deletes_the_current_folder() {
    let here = std::env::current_dir().unwrap();
    assert!(Staging::create(&here, true).is_err());
    assert!(Staging::create("/", true).is_err());
    assert!(Staging::create("..", true).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("r");
    let living = Staging::create(&target, false).unwrap();
    // No process has this id: it is past the largest that Linux gives out.
    let dead = folder.path().join(".r.partial-4194999-abcdef");
    let aside = folder.path().join(".r.old-4194999-abcdef");
    fs::create_dir(&dead).unwrap();
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("synth.json"), "old").unwrap();
    drop(Staging::create(&target, true).unwrap());
    assert!(living.path().is_dir() && !dead.exists() && !aside.exists());
    assert_eq!(
        fs::read(target.join("synth.json")).unwrap(),
        b"old",
        "a result set aside by a killed process comes back"
    );
}

/// In a container every run may have the same number.
#[cfg(unix)]
#[test]
fn leftovers_of_an_earlier_process_with_our_number_go_and_what_we_work_on_stays() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("r");
    let living = Staging::create(&target, false).unwrap();
    let own = std::process::id();
    let half_made = folder.path().join(format!(".r.partial-{own}-abcdef"));
    let aside = folder.path().join(format!(".r.old-{own}-abcdef"));
    fs::create_dir(&half_made).unwrap();
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("synth.json"), "old").unwrap();
    drop(Staging::create(&target, true).unwrap());
    assert!(living.path().is_dir() && !half_made.exists() && !aside.exists());
    assert_eq!(
        fs::read(target.join("synth.json")).unwrap(),
        b"old",
        "a result set aside by a killed process comes back"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_older_result_that_cannot_have_its_name_back_stays() {
    let folder = tempfile::tempdir().unwrap();
    let aside = folder.path().join(".r.old-4194999-abcdef");
    fs::create_dir(&aside).unwrap();
    clean_up(folder.path(), &"r".into(), &folder.path().join("missing/r"));
    assert!(aside.is_dir());
    // Beside a newer one it is not needed.
    fs::create_dir(folder.path().join("r")).unwrap();
    fs::write(folder.path().join("r/x"), "new").unwrap();
    clean_up(folder.path(), &"r".into(), &folder.path().join("r"));
    assert_eq!(names(folder.path()), ["r"]);
}
