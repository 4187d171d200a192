//! Accuracies in the head of a model card, as the Hub's `model-index` has them: read there by its pages and by
//! `huggingface_hub.ModelCard`.

use crate::data::{Framing, Labelled};
use crate::hub::split_commit;
use crate::train::Evaluation;
use serde::Serialize;
use yaml_serde::{Mapping, Value};

/// The key of the head.
const KEY: &str = "model-index";
/// What a head may be long: class names of a large data set are no part of it.
const HEAD_LIMIT: usize = 64 << 10;

/// The images that an accuracy was measured on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasuredOn {
    /// The dataset's name on the Hub (`owner/name`), else that of its folder or file.
    #[serde(rename = "type")]
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Folder of one configuration within the dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Commit on the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    pub args: Arguments,
}

/// How the images were taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arguments {
    pub num_examples: usize,
    /// How pictures of other sizes became the model's images, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framing: Option<String>,
}

impl MeasuredOn {
    /// What the name of `data` says: `owner/name@commit/split`, with a folder before the split, or `folder/split`, or `file`.
    pub fn of(data: &Labelled, framing: Option<Framing>) -> Self {
        let args = Arguments { num_examples: data.len(), framing: framing.map(|framing| framing.to_string()) };
        let (path, split) = match data.name.rsplit_once('/') {
            Some((path, split)) => (path, Some(split.to_string())),
            None => (data.name.as_str(), None),
        };
        let of_hub = path.split_once('@').map(|(id, rest)| (id, rest.split_once('/').unwrap_or((rest, ""))));
        let (id, revision, config) = match of_hub {
            Some((id, (commit, folder))) if split_commit(&format!("{id}@{commit}")).is_some() => {
                (id, Some(commit.to_string()), (!folder.is_empty()).then(|| folder.to_string()))
            }
            _ => (path, None, None),
        };
        let name = id.rsplit('/').next().unwrap_or(id).to_string();
        Self { id: id.to_string(), name, config, split, revision, args }
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    task: Task,
    dataset: &'a MeasuredOn,
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
struct Task {
    r#type: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct Metric {
    r#type: &'static str,
    name: &'static str,
    /// 0 to 1.
    value: f64,
    verified: bool,
}

/// The card with the accuracies of `found` in its head, under the model's entry of the `model-index` (called `model` where there
/// is none yet). What was measured on the same dataset, configuration and split before is replaced; the rest of the card stays as
/// it is, to the byte.
///
/// # Errors
/// In words, if the head is no YAML or not of the form that the Hub describes, so that it could not be changed without harm.
pub fn with_accuracy(card: &str, model: &str, on: &MeasuredOn, found: &Evaluation) -> Result<String, String> {
    let Some((start, head, rest)) = parts(card)? else {
        let block = with_accuracy("---\n---\n", model, on, found)?;
        return Ok(format!("{block}\n{card}"));
    };
    if has_anchor(head) {
        return Err("its head has an anchor (&name), whose copies can take any amount of memory".into());
    }
    let old: Mapping = match head.trim().is_empty() {
        true => Mapping::new(),
        false => yaml_serde::from_str(head).map_err(|error| format!("its head is no YAML ({})", one_line(&error)))?,
    };
    let mut index = old.get(KEY).cloned().unwrap_or(Value::Sequence(Vec::new()));
    put(&mut index, model, entry(on, found)?).ok_or("its model-index is not of the form that the Hub describes")?;
    let block = Mapping::from_iter([(Value::from(KEY), index)]);
    let block = yaml_serde::to_string(&block).map_err(|error| one_line(&error))?;
    let line_end = if start.ends_with("\r\n") { "\r\n" } else { "\n" };
    let new_head = replaced(head, &block.replace('\n', line_end));
    check(&new_head, &old, &block)?;
    Ok([start, &new_head, rest].concat())
}

/// Everything up to the head, the head, and what follows; `None` for a card without a head.
fn parts(card: &str) -> Result<Option<(&str, &str, &str)>, String> {
    let text = card.strip_prefix('\u{feff}').unwrap_or(card);
    let before = card.len() - text.len();
    let first = text.split_inclusive('\n').next().filter(|line| line.trim_end() == "---" && line.ends_with('\n'));
    let Some(first) = first else { return Ok(None) };
    let head_at = before + first.len();
    let mut at = head_at;
    for line in card[head_at..].split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Ok(Some((&card[..head_at], &card[head_at..at], &card[at..])));
        }
        at += line.len();
        if at - head_at > HEAD_LIMIT {
            break;
        }
    }
    Err("its head does not end: there is no second line `---`".into())
}

/// Whether there is what YAML takes as an anchor, of which aliases are copies: 45 KB of them have filled 24 GB. `R&D` is none.
fn has_anchor(head: &str) -> bool {
    let opens = |before: Option<char>| before.is_none_or(|c| c.is_whitespace() || "[{,:-?".contains(c));
    head.match_indices('&').any(|(at, _)| {
        let next = head[at + 1..].chars().next();
        opens(head[..at].chars().next_back()) && next.is_some_and(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    })
}

fn entry(on: &MeasuredOn, found: &Evaluation) -> Result<Value, String> {
    let metric =
        |r#type, name, value: f64| Metric { r#type, name, value: (value * 1e6).round() / 1e6, verified: false };
    let mut metrics = vec![metric("accuracy", "Top-1 accuracy", found.top1)];
    metrics.extend(found.top5.map(|share| metric("top_5_accuracy", "Top-5 accuracy", share)));
    let task = Task { r#type: "image-classification", name: "Image classification" };
    yaml_serde::to_value(Entry { task, dataset: on, metrics }).map_err(|error| one_line(&error))
}

/// Puts a result in the place of the one for the same data, or behind the others; `None` if `index` is of another form.
fn put(index: &mut Value, model: &str, result: Value) -> Option<()> {
    let models = index.as_sequence_mut()?;
    if models.is_empty() {
        let empty = Value::Sequence(Vec::new());
        models.push(Value::Mapping(Mapping::from_iter([("name".into(), model.into()), ("results".into(), empty)])));
    }
    let results = models[0].as_mapping_mut()?.get_mut("results")?.as_sequence_mut()?;
    let data = |result: &Value| {
        let part = |key: &str| result.get("dataset").and_then(|dataset| dataset.get(key)).cloned();
        (part("type"), part("config"), part("split"))
    };
    let task = |result: &Value| result.get("task").and_then(|task| task.get("type")).cloned();
    let same = |known: &&mut Value| (task(known), data(known)) == (task(&result), data(&result));
    match results.iter_mut().find(same) {
        Some(known) => *known = result,
        None => results.push(result),
    }
    Some(())
}

/// The head with `block` in the place of its `model-index`, or at its end.
fn replaced(head: &str, block: &str) -> String {
    let lines: Vec<&str> = head.split_inclusive('\n').collect();
    let Some(from) = lines.iter().position(|line| line.starts_with("model-index:")) else {
        let gap = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
        return [head, gap, block].concat();
    };
    let belongs = |line: &&&str| line.starts_with([' ', '\t', '-', '#']) || line.trim().is_empty();
    let mut to = from + 1 + lines[from + 1..].iter().take_while(belongs).count();
    // Comments and empty lines at the end are of what follows.
    while to > from + 1 && (lines[to - 1].starts_with('#') || lines[to - 1].trim().is_empty()) {
        to -= 1;
    }
    [&lines[..from].concat(), block, &lines[to..].concat()].concat()
}

/// Whether the changed head says what the old one did, but for the index.
fn check(head: &str, old: &Mapping, block: &str) -> Result<(), String> {
    let found: Result<(Mapping, Mapping), _> =
        yaml_serde::from_str(head).and_then(|head| Ok((head, yaml_serde::from_str(block)?)));
    let without =
        |head: &Mapping| head.iter().filter(|(key, _)| *key != KEY).map(|(k, v)| (k.clone(), v.clone())).collect();
    match found {
        Ok((head, index)) => {
            let (new, kept): (Mapping, Mapping) = (without(&head), without(old));
            let right = new == kept && head.get(KEY) == index.get(KEY);
            right.then_some(()).ok_or("its model-index stands in the head in a way that cannot be replaced".into())
        }
        Err(error) => Err(format!("its model-index cannot be replaced ({})", one_line(&error))),
    }
}

fn one_line(error: &yaml_serde::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn data(name: &str) -> Labelled {
        let images = Images::new(vec![0; 4], 1, 1, 1).unwrap();
        Labelled { images, labels: vec![0; 4], class_names: vec!["a".into()], name: name.into(), sha256: String::new() }
    }

    fn on(name: &str) -> MeasuredOn {
        MeasuredOn::of(&data(name), None)
    }

    fn found(top1: f64) -> Evaluation {
        let (count, correct) = (4, 3);
        Evaluation { count, correct, top1, top5: None, loss: 0.5, images_per_s: 1.0, confusion: Vec::new() }
    }

    fn recorded(card: &str, name: &str, top1: f64) -> Result<String, String> {
        with_accuracy(card, "small", &on(name), &found(top1))
    }

    const CARD: &str =
        "---\nlicense: \"mit\"  # as upstream\ntags:\n- a\n---\n\n# x\n\n---\nmodel-index: of the text\n";

    #[test]
    fn data_are_called_as_the_hub_calls_them() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let whole = on(&format!("uoft-cs/cifar10@{commit}/plain_text/test"));
        let some = |text: &str| Some(text.to_string());
        assert_eq!((whole.id.as_str(), whole.name.as_str()), ("uoft-cs/cifar10", "cifar10"));
        assert_eq!((whole.config, whole.split, whole.revision), (some("plain_text"), some("test"), some(commit)));
        let plain = on(&format!("a/b@{commit}/train"));
        assert_eq!((plain.id.as_str(), plain.config, plain.split), ("a/b", None, some("train")));
        for (name, id, split) in
            [("cifar10/test", "cifar10", some("test")), ("file", "file", None), ("x@y/z", "x@y", some("z"))]
        {
            let local = on(name);
            assert_eq!((local.id.as_str(), local.split, local.revision, local.config), (id, split, None, None));
        }
    }

    #[test]
    fn an_accuracy_stands_in_the_head_and_the_rest_stays() {
        let card = recorded(CARD, "cifar10/test", 0.8664).unwrap();
        let expected = "---\nlicense: \"mit\"  # as upstream\ntags:\n- a\nmodel-index:\n- name: small\n  results:\n  \
            - task:\n      type: image-classification\n      name: Image classification\n    dataset:\n      type: cifar10\n      \
            name: cifar10\n      split: test\n      args:\n        num_examples: 4\n    metrics:\n    - type: accuracy\n      \
            name: Top-1 accuracy\n      value: 0.8664\n      verified: false\n---\n\n# x\n\n---\nmodel-index: of the text\n";
        assert_eq!(card, expected);
        // Again: the same bytes. Another value: only that. Other data: beside it.
        assert_eq!(recorded(&card, "cifar10/test", 0.8664).unwrap(), card);
        assert_eq!(recorded(&card, "cifar10/test", 0.9).unwrap(), card.replace("0.8664", "0.9"));
        let two = recorded(&card, "cifar10/train", 0.99).unwrap();
        assert_eq!((two.matches("- task:").count(), two.matches("- name: small").count()), (2, 1));
        assert_eq!(recorded(&two, "cifar10/test", 0.8664).unwrap(), two);
        let five = Evaluation { top5: Some(0.95), ..found(0.5) };
        let five = with_accuracy(CARD, "small", &on("x/test"), &five).unwrap();
        assert!(five.contains("type: top_5_accuracy\n      name: Top-5 accuracy\n      value: 0.95\n"), "{five}");
    }

    /// What people and other programs write into heads.
    #[test]
    fn the_index_of_others_is_added_to() {
        let theirs = "---\r\nmodel-index:\r\n  - name: theirs\r\n    results:\r\n      - task: {type: image-classification}\r\n        \
            dataset: {type: imagenet-1k, name: ImageNet, split: test}\r\n        metrics: [{type: accuracy, value: 0.7}]\r\n\
            # about the licence\r\nlicense: mit\r\n---\r\n# x\r\n";
        let card = recorded(theirs, "cifar10/test", 0.5).unwrap();
        assert!(card.ends_with("# about the licence\r\nlicense: mit\r\n---\r\n# x\r\n"), "{card}");
        assert!(!card.replace("\r\n", "").contains(['\r', '\n']), "{card}");
        for part in ["name: theirs", "type: imagenet-1k", "value: 0.7", "type: cifar10", "value: 0.5"] {
            assert_eq!(card.matches(part).count(), 1, "{part} {card}");
        }
        let flow = "---\nmodel-index: [{name: m, results: []}]\nlicense: mit\n---\n";
        let card = recorded(flow, "cifar10/test", 0.5).unwrap();
        assert!(card.contains("- name: m\n  results:\n  - task:") && card.ends_with("license: mit\n---\n"), "{card}");
        let plain = "---\nauthors: R&D & others\n---\n";
        assert!(recorded(plain, "cifar10/test", 0.5).is_ok());
        let bare = recorded("# no head\n", "cifar10/test", 0.5).unwrap();
        assert!(bare.starts_with("---\nmodel-index:\n") && bare.ends_with("---\n\n# no head\n"), "{bare}");
    }

    #[test]
    fn a_head_that_cannot_be_changed_without_harm_is_refused() {
        for (card, part) in [
            ("---\nlicense: mit\n# no end\n", "does not end"),
            ("---\nlicense: [mit\n---\n", "no YAML"),
            ("---\n- a\n---\n", "no YAML"),
            ("---\na: &b [0, 0]\nc: [*b, *b]\n---\n", "an anchor"),
            ("---\nmodel-index: 3\n---\n", "not of the form"),
            ("---\nmodel-index:\n- name: x\n---\n", "not of the form"),
            ("---\n\"model-index\":\n- name: x\n  results: []\n---\n", "cannot be replaced"),
            ("---\nmodel-index: [\n{name: x, results: []}\n]\nlicense: mit\n---\n", "cannot be replaced"),
        ] {
            let refusal = recorded(card, "cifar10/test", 0.5).unwrap_err();
            assert!(refusal.contains(part) && !refusal.contains('\n'), "{card:?}: {refusal}");
        }
    }
}
