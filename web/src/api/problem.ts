// What can go wrong with a request, in one shape: the gateway's problem body, or no answer at all.

export interface FieldProblem {
  /** A JSON pointer into the body that was sent. */
  pointer: string
  message: string
}

export class Problem extends Error {
  override readonly name = 'Problem'

  constructor(
    /** Stable, and translated under `problem.CODE`. */
    readonly code: string,
    readonly status: number,
    readonly detail: string,
    readonly requestId: string | undefined,
    readonly errors: FieldProblem[],
    readonly retryAfterS: number | undefined,
  ) {
    super(detail)
  }

  static async of(response: Response, body: unknown): Promise<Problem> {
    const fields = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>
    const text = (key: string) => (typeof fields[key] === 'string' ? fields[key] : undefined)
    return new Problem(
      text('code') ?? 'INTERNAL',
      response.status,
      text('detail') ?? text('title') ?? response.statusText,
      text('requestId'),
      Array.isArray(fields.errors) ? (fields.errors as FieldProblem[]) : [],
      Number(response.headers.get('Retry-After')) || undefined,
    )
  }

  static offline(): Problem {
    return new Problem('OFFLINE', 0, '', undefined, [], undefined)
  }

  /** The messages by field, for those fields a form shows. */
  byField(): Record<string, string> {
    return Object.fromEntries(this.errors.map(({ pointer, message }) => [pointer, message]))
  }
}

export const asProblem = (error: unknown): Problem =>
  error instanceof Problem ? error : new Problem('INTERNAL', 0, String(error), undefined, [], undefined)
