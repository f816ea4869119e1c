import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

interface Lockfile {
  readonly packages: Readonly<Record<string, { readonly resolved?: string }>>
}

/** Packages of a lock file that say which host they came from. */
function resolvedPackages(lock: Lockfile): string[] {
  return Object.entries(lock.packages)
    .filter(([, entry]) => entry.resolved !== undefined)
    .map(([name]) => name)
}

describe('the lock file', () => {
  it('names no registry host, so that any registry can serve it', () => {
    const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as Lockfile
    expect(Object.keys(lock.packages).length).toBeGreaterThan(10)
    expect(resolvedPackages(lock)).toEqual([])
  })

  it('would be caught with a resolved url', () => {
    const lock = { packages: { '': {}, a: { resolved: 'https://registry.invalid/a.tgz' }, b: {} } }
    expect(resolvedPackages(lock)).toEqual(['a'])
  })
})
