/** Installing packages on Debian, for scripts that set up a machine for the tests. */
import { spawnSync } from 'node:child_process'

const timeoutMs = 900_000

/** True where this process can install packages: root, with apt. */
export function mayInstall() {
  const apt = spawnSync('apt-get', ['--version'], { stdio: 'ignore' })
  return process.getuid?.() === 0 && apt.status === 0
}

/** The command a person would run. */
export function installCommand(packages) {
  return `apt-get install --yes --no-install-recommends ${packages.join(' ')}`
}

/** Says what it does, asks nothing, throws when it fails. */
export function installPackages(packages, say) {
  say(`installing ${packages.join(' and ')} with apt-get`)
  const options = {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    timeout: timeoutMs,
  }
  spawnSync('apt-get', ['update'], options)
  const [name, ...args] = installCommand(packages).split(' ')
  const { status } = spawnSync(name, args, options)
  if (status !== 0) throw new Error(`'${installCommand(packages)}' failed`)
}
