import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema, anyUnpack } from "@bufbuild/protobuf/wkt";
import { type FailureDetail, FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { Failure, failureFromDetail } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import { type ServiceError, status } from "@grpc/grpc-js";

const reasons: Readonly<Partial<Record<status, Reason>>> = {
  [status.UNAVAILABLE]: "CONTROL_PLANE_UNREACHABLE",
  [status.DEADLINE_EXCEEDED]: "DEADLINE_EXCEEDED",
  [status.UNAUTHENTICATED]: "CERTIFICATE_REFUSED",
  [status.PERMISSION_DENIED]: "PERMISSION_DENIED",
  [status.UNIMPLEMENTED]: "METHOD_UNKNOWN",
  [status.RESOURCE_EXHAUSTED]: "RATE_LIMITED",
};

/** The failure that an ended call to `address` stands for: the one that the control plane sent, or one for its status. */
export function failureFromRpc(error: ServiceError, address: string): Failure {
  const detail = failureDetail(error);
  if (detail) return failureFromDetail(detail);
  const reason = reasons[error.code] ?? "INTERNAL";
  // Of what grpc-js says about a connection that did not come about, only the cause is news.
  const [, connectError] = /Last error: (?:Error: )?(.*?)\. Resolution note:/s.exec(error.details) ?? [];
  return new Failure(reason, `${address}: ${connectError ?? (error.details || status[error.code])}`, { cause: error });
}

function failureDetail(error: ServiceError): FailureDetail | undefined {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(bytes)) return undefined;
  // google.rpc.Status: its third field is the list of details, each an Any.
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field !== 3 || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, field);
      continue;
    }
    const detail = anyUnpack(fromBinary(AnySchema, reader.bytes()), FailureDetailSchema);
    if (detail) return detail;
  }
  return undefined;
}
