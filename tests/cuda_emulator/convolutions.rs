//! cuDNN's three convolutions, called as any program calls them, beside those of candle on the CPU.

use super::device;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvForward, Cudnn, CudnnDataType, sys as dnn,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::{Device, Tensor, Var, WithDType};
use dnn::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
use dnn::cudnnTensorFormat_t::{self as Format, CUDNN_TENSOR_NCHW as NCHW, CUDNN_TENSOR_NHWC as NHWC};
use half::bf16;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
struct Case {
    /// N, C, H, W
    x: [usize; 4],
    /// K, C/groups, R, S
    w: [usize; 4],
    padding: usize,
    stride: usize,
    dilation: usize,
    groups: usize,
}

const CASES: [Case; 4] = [
    Case { x: [2, 3, 7, 7], w: [4, 3, 3, 3], padding: 1, stride: 2, dilation: 1, groups: 1 },
    Case { x: [2, 8, 6, 5], w: [6, 4, 3, 3], padding: 2, stride: 1, dilation: 2, groups: 2 },
    Case { x: [1, 6, 5, 5], w: [6, 1, 3, 3], padding: 1, stride: 1, dilation: 1, groups: 6 },
    Case { x: [3, 16, 4, 4], w: [8, 16, 1, 1], padding: 0, stride: 1, dilation: 1, groups: 1 },
];

/// Values that both types of the tests hold exactly.
fn values(dims: [usize; 4], seed: f32) -> Var {
    let n = dims.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|i| bf16::from_f32(((i as f32 + seed) * 12.9898).sin()).to_f32()).collect();
    Var::from_tensor(&Tensor::from_vec(values, dims.to_vec(), &Device::Cpu).unwrap()).unwrap()
}

fn arrange(t: &Tensor, format: Format) -> Vec<f32> {
    let t = if format == NHWC { t.permute((0, 2, 3, 1)).unwrap() } else { t.clone() };
    t.contiguous().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
}

fn compare<T: CudnnDataType + DeviceRepr + WithDType>(
    cuda: &CudaDevice,
    dnn: &Arc<Cudnn>,
    case: Case,
    format: Format,
    tolerance: f32,
) {
    let (x, w) = (values(case.x, 0.1), values(case.w, 0.7));
    let y = x.conv2d(&w, case.padding, case.stride, case.dilation, case.groups).unwrap();
    let y_dims: [usize; 4] = y.dims().try_into().unwrap();
    let dy = values(y_dims, 0.3);
    let grads = (&y * dy.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();

    let [padding, stride, dilation] = [case.padding, case.stride, case.dilation].map(|v| [v as i32; 2]);
    let mut conv = dnn.create_conv2d::<f32>(padding, stride, dilation, CUDNN_CROSS_CORRELATION).unwrap();
    conv.set_group_count(case.groups as i32).unwrap();
    conv.set_math_type(dnn::cudnnMathType_t::CUDNN_TENSOR_OP_MATH).unwrap();
    let dims = |d: [usize; 4]| d.map(|v| v as i32);
    let x_desc = dnn.create_4d_tensor::<T>(format, dims(case.x)).unwrap();
    let w_desc = dnn.create_4d_filter::<T>(format, dims(case.w)).unwrap();
    let y_desc = dnn.create_4d_tensor::<T>(format, dims(y_dims)).unwrap();
    let up = |values: Vec<f32>| {
        let values: Vec<T> = values.into_iter().map(|v| T::from_f64(f64::from(v))).collect();
        cuda.clone_htod(&values).unwrap()
    };
    let (xs, ws, dys) = (up(arrange(&x, format)), up(arrange(&w, format)), up(arrange(&dy, format)));
    let ones = |t: &Tensor| up(vec![1.0; t.elem_count()]);
    let (mut y_out, mut dx, mut dw) = (ones(&y), ones(&x), ones(&w));
    let scratch = |bytes: usize| Some(cuda.alloc_zeros::<u8>(bytes.max(1)).unwrap());
    let (plain, blend) = ((T::from_f64(1.0), T::from_f64(0.0)), (T::from_f64(0.5), T::from_f64(2.0)));
    // SAFETY: sizes are those of the descriptors, the scratch memory is as large as cuDNN asks for.
    unsafe {
        let call = ConvForward { conv: &conv, x: &x_desc, w: &w_desc, y: &y_desc };
        let algorithm = call.pick_algorithm().unwrap();
        let mut space = scratch(call.get_workspace_size(algorithm).unwrap());
        call.launch(algorithm, space.as_mut(), blend, &xs, &ws, &mut y_out).unwrap();
        let call = ConvBackwardData { conv: &conv, dx: &x_desc, w: &w_desc, dy: &y_desc };
        let algorithm = call.pick_algorithm().unwrap();
        let mut space = scratch(call.get_workspace_size(algorithm).unwrap());
        call.launch(algorithm, space.as_mut(), plain, &mut dx, &ws, &dys).unwrap();
        let call = ConvBackwardFilter { conv: &conv, x: &x_desc, dw: &w_desc, dy: &y_desc };
        let algorithm = call.pick_algorithm().unwrap();
        let mut space = scratch(call.get_workspace_size(algorithm).unwrap());
        call.launch(algorithm, space.as_mut(), blend, &xs, &mut dw, &dys).unwrap();
    }
    let check = |name: &str, got: &CudaSlice<T>, expected: &Tensor, (factor, summand): (f32, f32)| {
        let expected: Vec<f32> = arrange(expected, format).into_iter().map(|v| factor * v + summand).collect();
        let scale = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        for (a, b) in cuda.clone_dtoh(got).unwrap().into_iter().map(|v| v.to_f64() as f32).zip(&expected) {
            assert!((a - b).abs() <= tolerance * scale, "{name} {case:?} {format:?}: {a} {b}");
        }
    };
    check("y", &y_out, &y, (0.5, 2.0));
    check("dx", &dx, grads.get(&x).unwrap(), (1.0, 0.0));
    check("dw", &dw, grads.get(&w).unwrap(), (0.5, 2.0));
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn convolutions_are_those_of_the_cpu() {
    let (_, cuda) = device();
    let dnn = Cudnn::new(cuda.cuda_stream()).unwrap();
    for case in CASES {
        for format in [NCHW, NHWC] {
            compare::<f32>(&cuda, &dnn, case, format, 1e-5);
        }
    }
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn bfloat16_convolutions_round_once() {
    let (_, cuda) = device();
    let dnn = Cudnn::new(cuda.cuda_stream()).unwrap();
    for case in CASES {
        // Half of the last of eight bits, and a little for f32 on the CPU.
        compare::<bf16>(&cuda, &dnn, case, NHWC, 1.0 / 255.0);
    }
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn what_does_not_fit_is_refused() {
    use dnn::cudnnStatus_t::{CUDNN_STATUS_BAD_PARAM, CUDNN_STATUS_NOT_SUPPORTED};
    let (_, cuda) = device();
    let dnn = Cudnn::new(cuda.cuda_stream()).unwrap();
    let conv = dnn.create_conv2d::<f32>([1, 1], [1, 1], [1, 1], CUDNN_CROSS_CORRELATION).unwrap();
    let tensor = |format, dims| dnn.create_4d_tensor::<f32>(format, dims).unwrap();
    let filter = |format| dnn.create_4d_filter::<f32>(format, [4, 3, 3, 3]).unwrap();
    let (x, y, w) = (tensor(NHWC, [2, 3, 8, 8]), tensor(NHWC, [2, 4, 8, 8]), filter(NHWC));
    let (tall, first) = (tensor(NHWC, [2, 4, 9, 8]), filter(NCHW));

    let sizes = ConvForward { conv: &conv, x: &x, w: &w, y: &tall }.pick_algorithm().err().unwrap();
    assert_eq!(sizes.0, CUDNN_STATUS_BAD_PARAM);
    let algorithm = dnn::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    let formats = ConvForward { conv: &conv, x: &x, w: &first, y: &y }.get_workspace_size(algorithm).err().unwrap();
    assert_eq!(formats.0, CUDNN_STATUS_NOT_SUPPORTED);
    let call = ConvForward { conv: &conv, x: &x, w: &w, y: &y };
    let needed = call.get_workspace_size(algorithm).unwrap();
    assert!(needed > 1);
    let up = |n: usize| cuda.alloc_zeros::<f32>(n).unwrap();
    let (xs, ws, mut ys) = (up(2 * 3 * 64), up(4 * 27), up(2 * 4 * 64));
    let mut small = cuda.alloc_zeros::<u8>(needed - 1).unwrap();
    // SAFETY: too little scratch memory is what the call has to refuse.
    let space = unsafe { call.launch(algorithm, Some(&mut small), (1.0, 0.0), &xs, &ws, &mut ys) }.err().unwrap();
    assert_eq!(space.0, CUDNN_STATUS_BAD_PARAM);
    let short = up(2 * 3 * 64 - 1);
    let mut enough = cuda.alloc_zeros::<u8>(needed).unwrap();
    // SAFETY: an input that is too short is what the call has to refuse.
    let extent = unsafe { call.launch(algorithm, Some(&mut enough), (1.0, 0.0), &short, &ws, &mut ys) }.err().unwrap();
    assert_eq!(extent.0, CUDNN_STATUS_BAD_PARAM);
}
