import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

interface LockedPackage {
  readonly resolved?: string
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

interface Lockfile {
  readonly packages: Readonly<Record<string, LockedPackage>>
}

/** Packages of a lock file that say which host they came from. */
function resolvedPackages(lock: Lockfile): string[] {
  return Object.entries(lock.packages)
    .filter(([, entry]) => entry.resolved !== undefined)
    .map(([name]) => name)
}

/** Binaries of other platforms that were left out when the lock was written. */
function missingOptionals(lock: Lockfile): string[] {
  const present = Object.keys(lock.packages)
  return Object.values(lock.packages)
    .flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}))
    .filter((name) => !present.some((path) => path.endsWith(`node_modules/${name}`)))
}

const lockfile = JSON.parse(readFileSync('package-lock.json', 'utf8')) as Lockfile

describe('the lock file', () => {
  it('names no registry host, so that any registry can serve it', () => {
    expect(Object.keys(lockfile.packages).length).toBeGreaterThan(10)
    expect(resolvedPackages(lockfile)).toEqual([])
  })

  it('lists the binaries of every platform, without which npm ci refuses it', () => {
    expect(missingOptionals(lockfile)).toEqual([])
  })
})

describe('the check of the lock file', () => {
  it('finds a resolved url', () => {
    const packages = { '': {}, a: { resolved: 'https://registry.invalid/a.tgz' }, b: {} }
    expect(resolvedPackages({ packages })).toEqual(['a'])
  })

  it('finds an optional package that is not locked', () => {
    const optionalDependencies = { 'here-x64': '1.0.0', 'there-arm64': '1.0.0' }
    const packages = { 'node_modules/a': { optionalDependencies }, 'node_modules/here-x64': {} }
    expect(missingOptionals({ packages })).toEqual(['there-arm64'])
  })
})
