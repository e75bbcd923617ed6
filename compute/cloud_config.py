"""The keys of cloud-config, and what each takes: guests pass over a misspelled key, and a value of another kind.

Keys that resemble none of these pass: images and scripts may read keys of their own.
"""

from difflib import get_close_matches

import yaml

ALIKE = 0.85  # how much an unknown key resembles a known one that was meant, 1 for the same
NULL = "tag:yaml.org,2002:null"
LIST, MAPPING, TEXT = yaml.SequenceNode, yaml.MappingNode, yaml.ScalarNode
WORDS = {LIST: "a list, each entry on a line that begins with “- ”", MAPPING: "a mapping", TEXT: "a single value"}


def _keys(text: str, *kinds: type[yaml.Node]) -> dict[str, tuple[type[yaml.Node], ...]]:
    return dict.fromkeys(text.split(), kinds)


KEYS: dict[str, tuple[type[yaml.Node], ...]] = {
    **_keys(
        "bootcmd runcmd packages write_files mounts mount_default_fields fs_setup ssh_authorized_keys "
        "ssh_import_id ssh_genkeytypes ssh_fp_console_blacklist ssh_key_console_blacklist cloud_init_modules "
        "cloud_config_modules cloud_final_modules",
        LIST,
    ),
    **_keys(
        "ansible apk_repos apt autoinstall ca_certs chef chpasswd device_aliases disk_setup drivers fan growpart "
        "grub_dpkg keyboard landscape lxd mcollective network ntp phone_home power_state puppet random_seed "
        "resolv_conf rh_subscription rsyslog salt_minion snap spacewalk ssh ssh_keys ssh_publish_hostkeys swap "
        "ubuntu_advantage ubuntu_pro updates vendor_data wireguard yum_repos zypper",
        MAPPING,
    ),
    **_keys(
        "allow_public_ssh_keys apt_pipelining apt_reboot_if_required apt_update apt_upgrade authkey_hash "
        "byobu_by_default create_hostname_file disable_ec2_metadata disable_root disable_root_opts final_message "
        "fqdn hostname locale locale_configfile manage_etc_hosts manage_resolv_conf migrate no_ssh_fingerprints "
        "package_reboot_if_required package_update package_upgrade password prefer_fqdn_over_hostname "
        "preserve_hostname resize_rootfs ssh_deletekeys ssh_pwauth ssh_quiet_keygen timezone yum_repo_dir",
        TEXT,
    ),
    **_keys("groups users", LIST, MAPPING, TEXT),
    **_keys("user", MAPPING, TEXT),
}


def fault(key: str, value: yaml.Node) -> str:
    """What is wrong with an entry of the document's outermost mapping, in words; "" for nothing."""
    name = key.replace("-", "_")  # older documents write some of them so
    kinds = KEYS.get(name)
    if kinds is None:
        meant = get_close_matches(name, KEYS, n=1, cutoff=ALIKE)
        return f"{key} is no key of cloud-config; perhaps {meant[0]} is meant" if meant else ""
    if isinstance(value, kinds) or value.tag == NULL:
        return ""
    return f"{key} is {' or '.join(WORDS[kind] for kind in kinds)}"
