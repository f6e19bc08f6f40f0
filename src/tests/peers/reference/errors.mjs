// What a handler may throw, and what each becomes on the wire.

/** A JSON-RPC error. `status` is the HTTP status where the transport has one (modern era only). */
export class RpcError extends Error {
  constructor(code, message, { data, status } = {}) {
    super(message);
    this.code = code;
    this.data = data;
    this.status = status;
  }

  toJson() {
    return { code: this.code, message: this.message, ...(this.data === undefined ? {} : { data: this.data }) };
  }
}

/** The call needs answers from the client first (multi round-trip requests, 2026-07-28). */
export class InputRequired extends Error {
  constructor(inputRequests, requestState) {
    super('input required');
    this.result = {
      resultType: 'input_required',
      inputRequests,
      ...(requestState === undefined ? {} : { requestState }),
    };
  }
}

/** A tool that failed in a way the model should read: a result with `isError`, not a protocol error. */
export class ToolFailure extends Error {}

export const PARSE_ERROR = -32700;
export const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602;
export const INTERNAL_ERROR = -32603;
export const RESOURCE_NOT_FOUND_LEGACY = -32002;
export const HEADER_MISMATCH = -32020;
export const MISSING_CAPABILITY = -32021;
export const UNSUPPORTED_VERSION = -32022;
