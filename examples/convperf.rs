use std::time::Instant;
use synth::ops::{conv2d::*, mem::*};
fn t<R>(mut f: impl FnMut()->R)->f64{ let mut v=vec![]; for _ in 0..25 {let s=Instant::now(); f(); v.push(s.elapsed().as_secs_f64());} v.sort_by(f64::total_cmp); v[0]}
fn main(){
  for (n,h,ci,co,s) in [(128,32,3,16,1),(128,32,16,16,1),(128,32,16,32,2),(128,16,32,32,1),(128,8,64,64,1),(64,16,128,128,1),(64,4,512,512,1),(128,32,32,32,1)] {
    let spec=Conv2dSpec::new(3).padding(1).stride(s);
    let x=tensor(vec![0.5;n*h*h*ci],(n,h,h,ci)).unwrap(); let w=tensor(vec![0.01;9*ci*co],(3,3,ci,co)).unwrap();
    let o=h/s; let dy=tensor(vec![0.1;n*o*o*co],(n,o,o,co)).unwrap();
    let fl=2.0*(n*o*o*9*ci*co) as f64/1e9;
    let a=t(||forward(&x,None,&w,&spec,&After::NOTHING).unwrap());
    let b=t(||backward_input(&dy,&w,&spec,x.dims()).unwrap());
    let c=t(||backward_weights(&x,None,&dy,&spec,&[3,3,ci,co]).unwrap());
    println!("{n}x{h} {ci}->{co} s{s}: fwd {:.2}ms {:.0} GF | dx {:.2}ms {:.0} | dw {:.2}ms {:.0}",a*1e3,fl/a,b*1e3,fl/b,c*1e3,fl/c);
  }
}
