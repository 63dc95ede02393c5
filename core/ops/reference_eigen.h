// The Eigen views that the reference ops are written in.
//
// A reference must be holomorphic, so that the complex step differentiates it. It must not use
// norm(), squaredNorm(), dot(), adjoint() or abs(), which conjugate or drop the imaginary part. A
// maximum (the shift of a softmax) is the maximum of the real parts.
#ifndef STRAKE_CORE_OPS_REFERENCE_EIGEN_H_
#define STRAKE_CORE_OPS_REFERENCE_EIGEN_H_

#include <complex>

#include "Eigen/Core"

namespace strake::reference {

template <typename Scalar>
using Array = Eigen::Map<Eigen::Array<Scalar, Eigen::Dynamic, 1>>;
template <typename Scalar>
using ConstArray = Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>>;

// Row-major matrices whose row stride may exceed the row length.
template <typename Scalar>
using RowMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename Scalar>
using Matrix = Eigen::Map<RowMajor<Scalar>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <typename Scalar>
using ConstMatrix = Eigen::Map<const RowMajor<Scalar>, Eigen::Unaligned, Eigen::OuterStride<>>;

inline double Real(double x) { return x; }
inline float Real(float x) { return x; }
inline double Real(std::complex<double> x) { return x.real(); }

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_REFERENCE_EIGEN_H_
