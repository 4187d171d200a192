//! A class that stands for void has no part in losses of probabilities.

use super::tests::{student, teacher, value};
use super::*;

/// A column for void changes nothing, whatever is in it, and nothing pulls at it.
#[test]
fn void_is_left_out_of_entropies() {
    let known = student();
    for (void, its) in [(0, 3.0), (1, -2.0), (3, 400.0)] {
        let rows = mem::view(&known).unwrap().chunks(3).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let with = |row: &Vec<f32>| [&row[..void], &[its], &row[void..]].concat();
        let all = mem::tensor(rows.iter().flat_map(with).collect(), (rows.len(), 4)).unwrap();
        let heard = without(&all, Some(void)).unwrap();
        let losses: [fn(&Tensor) -> crate::Result<Loss>; 2] = [|logits| answer_entropy(logits, None), class_balance];
        for loss in losses {
            let (plain, found) = (loss(&known).unwrap(), loss(&heard).unwrap());
            assert_eq!(value(&plain), value(&found));
            let plain_grad = mem::view(&plain.grad).unwrap().to_vec();
            let expected: Vec<f32> =
                plain_grad.chunks(3).flat_map(|g| [&g[..void], &[0.0], &g[void..]].concat()).collect();
            let grad = mem::view(&found.grad).unwrap().to_vec();
            assert!(grad.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-30), "{grad:?} {expected:?}");
            assert_ne!(value(&loss(&all).unwrap()), value(&found));
        }
        let shifted = decisions(&known).unwrap().into_iter().map(|c| c + u32::from(c as usize >= void));
        assert_eq!(decisions(&heard).unwrap(), shifted.collect::<Vec<u32>>());
    }
}

/// A class that is void has no part in what a student hears of probabilities, wherever it stood; logits stay as they are.
#[test]
fn void_is_not_taught() {
    let answers = teacher();
    let (soft, both) = (Matching::Kl { temperature: 4.0 }, Matching::KlAndDecision { temperature: 2.0, decision: 0.3 });
    for how in [soft, both] {
        let heard = how.heard(&answers, Some(0)).unwrap();
        // Of the two classes that are left, at any temperature.
        let known = mem::tensor(vec![0.0, 1.0, 0.5, 2.0], (2, 2)).unwrap();
        let own = mem::tensor(vec![2.0, -1.0, -0.5, 3.0], (2, 2)).unwrap();
        let never = mem::tensor(vec![-1e5, 2.0, -1.0, -1e5, -0.5, 3.0], (2, 3)).unwrap();
        let [found, expected] =
            [(&never, &heard), (&own, &known)].map(|(s, t)| matching_loss(s, t, how, None).unwrap());
        assert!((value(&found) - value(&expected)).abs() < 1e-6, "{how:?}");
        // A student that answers void is told not to.
        let pull = matching_loss(&student(), &heard, how, None).unwrap();
        assert!(mem::view(&pull.grad).unwrap()[0] > 0.0);
        assert_eq!(how.heard(&answers, None).unwrap().id(), answers.id());
        assert!(how.heard(&answers, Some(3)).is_err());
    }
    for how in [Matching::Logits, Matching::L1] {
        assert_eq!(how.heard(&answers, Some(0)).unwrap().id(), answers.id());
    }
}
