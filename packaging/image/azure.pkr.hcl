# A version of the image in an Azure Compute Gallery, made on a machine in Azure: Debian's own image, and what install.sh makes of it.
# docs/azure.md, section 5.

packer {
  required_plugins {
    azure = {
      source  = "github.com/hashicorp/azure"
      version = "~> 2.0"
    }
  }
}

variable "subscription" {
  type        = string
  description = "Its id, as `az account show --query id` has it"
}

variable "group" {
  type        = string
  description = "The resource group of the gallery"
}

variable "location" {
  type        = string
  description = "Where the machine is made, and where the version is kept"
}

variable "gallery" {
  type        = string
  description = "The gallery, which has an image definition `landfall`"
}

variable "version" {
  type        = string
  description = "MAJOR.MINOR.PATCH, not in the gallery yet"
}

variable "deb" {
  type        = string
  description = "Our package, of `make deb`"
}

source "azure-arm" "landfall" {
  # Who is logged in by `az login`.
  use_azure_cli_auth = true
  subscription_id    = var.subscription
  location           = var.location

  os_type         = "Linux"
  image_publisher = "Debian"
  image_offer     = "debian-13"
  image_sku       = "13-gen2"
  vm_size         = "Standard_D2as_v5"
  ssh_username    = "packer"

  shared_image_gallery_destination {
    subscription         = var.subscription
    resource_group       = var.group
    gallery_name         = var.gallery
    image_name           = "landfall"
    image_version        = var.version
    storage_account_type = "Standard_LRS"
    target_region {
      name     = var.location
      replicas = 1
    }
  }
}

build {
  sources = ["source.azure-arm.landfall"]

  provisioner "shell" {
    inline = ["mkdir /tmp/image"]
  }

  provisioner "file" {
    source      = "${path.root}/"
    destination = "/tmp/image"
  }

  provisioner "file" {
    source      = var.deb
    destination = "/tmp/image/landfall.deb"
  }

  # The last but one takes away the user by which Packer is in.
  provisioner "shell" {
    execute_command = "chmod +x {{ .Path }}; sudo {{ .Vars }} sh {{ .Path }}"
    skip_clean      = true
    inline = [
      "set -eu",
      "cloud-init status --wait",
      "sh /tmp/image/install.sh /tmp/image/landfall.deb packages packages.disk",
      "update-grub",
      "rm -r /tmp/image",
      "cloud-init clean --logs",
      "waagent -force -deprovision+user",
      "sync",
    ]
  }
}
