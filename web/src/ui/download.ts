// Files that the console makes, given to the browser to save.

export function save(name: string, content: Blob) {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  URL.revokeObjectURL(link.href)
}

/** Fields as RFC 4180 wants them. What a spreadsheet would take for a formula is marked as text. */
export function csv(header: string[], rows: (string | number | null | undefined)[][]): Blob {
  const field = (value: string | number | null | undefined) => {
    const text = String(value ?? '')
    const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
  }
  const lines = [header, ...rows].map((row) => row.map(field).join(','))
  return new Blob([`${lines.join('\r\n')}\r\n`], { type: 'text/csv;charset=utf-8' })
}
