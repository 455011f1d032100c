import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";

/** A method as grpc-js wants it: where it is, and how its messages become bytes. */
export interface GrpcMethod<I extends DescMessage, O extends DescMessage> {
  readonly path: string;
  readonly serialize: (message: MessageShape<I>) => Buffer;
  readonly deserialize: (bytes: Buffer) => MessageShape<O>;
}

/** Makes a generated method usable by a grpc-js client. */
export function grpcMethod<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { readonly input: I; readonly output: O },
): GrpcMethod<I, O> {
  const { parent, name, input, output } = method;
  return {
    path: `/${parent.typeName}/${name}`,
    serialize: (message) => {
      const bytes = toBinary(input, message);
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    deserialize: (bytes) => fromBinary(output, bytes),
  };
}
